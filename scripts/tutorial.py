"""From a CSV to a served prediction, step by step.

python scripts/tutorial.py                       # a bundled example; asks its own server one question and ends
python scripts/tutorial.py --csv few.csv --serve # columns text and label; serves until Ctrl-C
curl -d '{"texts": ["has the courier been yet?"]}' http://localhost:8000
"""

import argparse
import json
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from urllib.request import Request, urlopen

from episodes.reading import read_table
from metawarp import Task, WarpClassifier

EXAMPLE = [
    ("where is my parcel", "delivery"),
    ("it still says on its way, since Monday", "delivery"),
    ("i want my money back", "refund"),
    ("please cancel and pay me back", "refund"),
    ("the zip broke on the first day", "damaged item"),
    ("one of the glasses came in pieces", "damaged item"),
]


def main() -> None:
    """Run the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, help="labelled texts, columns text and label; default: an example")
    parser.add_argument("--serve", action="store_true", help="serve until Ctrl-C")
    parser.add_argument("--port", type=int, default=8000, help="with --serve")
    options = parser.parse_args()

    print("1. Read the labelled texts")
    if options.csv is None:
        texts, labels = zip(*EXAMPLE, strict=True)
    else:
        table = read_table(options.csv, "text", "label")
        texts, labels = table.texts, table.labels
    print(f"   {len(texts)} texts of {len(set(labels))} classes")

    print("2. Fit: the init that ships with metawarp adapts to the task")
    classifier = WarpClassifier().fit(texts, labels)

    with tempfile.TemporaryDirectory() as folder:
        print("3. Save the task: a few hundred kilobytes, which is all that has to be deployed beside the backbone")
        classifier.save(folder)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        print(f"   {size / 1000:.0f} kB")
        print("4. Load it where it is served")
        served = Task.load(folder)

    server = ThreadingHTTPServer(("localhost", options.port if options.serve else 0), handler_of(served))
    address = f"http://localhost:{server.server_port}"
    print(f"5. Serve it on {address}")
    if options.serve:
        server.serve_forever()
    Thread(target=server.serve_forever, daemon=True).start()
    question = json.dumps({"texts": ["has the courier been yet?"]}).encode()
    with urlopen(Request(address, data=question)) as answer:
        print("   " + answer.read().decode())
    server.shutdown()


def handler_of(task: Task) -> type[BaseHTTPRequestHandler]:
    """Answers {"texts": […]} with a list of {"label": …, "probabilities": {…}}."""
    one_at_a_time = Lock()  # a pass uses all cores already

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["texts"]
                with one_at_a_time:
                    probabilities = task.predict_proba(texts)
            except (KeyError, TypeError, ValueError) as error:
                self.answer(400, {"error": str(error)})
                return
            names = [str(name) for name in task.classes]
            self.answer(
                200,
                [
                    {
                        "label": names[row.argmax()],
                        "probabilities": dict(zip(names, row.round(4).tolist(), strict=True)),
                    }
                    for row in probabilities
                ],
            )

        def answer(self, status: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


if __name__ == "__main__":
    main()
