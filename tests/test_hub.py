"""What the Hub answers, asked over real HTTP: a server of our own that refuses as the Hub does."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from running import refused

from episodes import Corpus
from episodes.hub import hub_refusal
from metawarp import Backbone

REFUSALS = {
    "missing": (
        (404, {"X-Error-Code": "RepoNotFound"}),
        "the Hub has no public {} of this name (for a private one, log in with `hf auth login`)",
    ),
    "gated": (
        (403, {"X-Error-Code": "GatedRepo"}),
        "the Hub wants its terms accepted: do so on its page, and log in with `hf auth login`",
    ),
    "busy": ((429, {}), "the Hub refuses for now (429 Too Many Requests for url: {url})"),
}


@pytest.fixture
def hub(monkeypatch):
    """A server in the Hub's place; returns its address, and what it is to answer (status, headers)."""
    answer = []

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 - the name that http.server looks for
            status, headers = answer[0]
            self.send_response(status)
            body = b'{"id": "owner/name"}' if status == 200 else b""
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield address, answer
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("case", REFUSALS)
def test_the_cause_of_a_refusal_is_said(hub, case):
    address, answer = hub
    reply, sentence = REFUSALS[case]
    answer.append(reply)
    for kind, path in (("model", "models"), ("data set", "datasets")):
        expected = sentence.format(kind, url=f"{address}/api/{path}/owner/name.")
        assert hub_refusal(kind, "owner/name") == expected
    if case != "busy":
        with refused(
            f"owner/name is no local file, and {sentence.format('data set')}. Use a local file or 'everyday', or set "
            "HF_HUB_OFFLINE=1 if it was downloaded before."
        ):
            Corpus.load("owner/name")
        with refused(
            f"backbone 'owner/name' is no folder here, and {sentence.format('model')}; offline, "
            'use "minilm" or a folder with config.json, weights and tokenizer.'
        ):
            Backbone.load("owner/name")


def test_what_the_hub_has_is_not_refused(hub):
    _, answer = hub
    answer.append((200, {}))
    assert hub_refusal("model", "owner/name") is None
    assert hub_refusal("data set", "owner/name") is None


def test_a_path_is_no_hub_id(hub):
    assert hub_refusal("model", "./no/such/folder") == "it is no Hub id such as 'owner/name'"
