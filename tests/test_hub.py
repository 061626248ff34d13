"""Messages about what the Hub refuses, with a local HTTP server in the place of the Hub."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Literal

import pytest
from running import refused

from episodes import Corpus
from episodes.hub import hub_refusal
from metawarp import Backbone

REFUSALS = {
    "missing": ((404, {"X-Error-Code": "RepoNotFound"}), ["no public {}", "hf auth login"]),
    "gated": ((403, {"X-Error-Code": "GatedRepo"}), ["terms", "hf auth login"]),
    "busy": ((429, {}), ["429 Too Many Requests", "{url}"]),
}
KINDS: dict[Literal["model", "data set"], str] = {"model": "models", "data set": "datasets"}
"""Part of the address of each kind of repository."""


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

        def log_message(self, format, *args):
            """Print nothing."""

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield address, answer
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("case", REFUSALS)
def test_the_cause_of_a_refusal_is_named(hub, case):
    address, answer = hub
    reply, facts = REFUSALS[case]
    answer.append(reply)
    for kind, path in KINDS.items():
        refusal = hub_refusal(kind, "owner/name")
        assert refusal is not None
        for fact in facts:
            assert fact.format(kind, url=f"{address}/api/{path}/owner/name") in refusal
    if case != "busy":
        with refused("owner/name", *(fact.format("data set") for fact in facts), "'everyday'", "HF_HUB_OFFLINE=1"):
            Corpus.load("owner/name")
        with refused("owner/name", *(fact.format("model") for fact in facts), "minilm"):
            Backbone.load("owner/name")


def test_what_the_hub_has_is_not_refused_and_a_path_is_no_hub_id(hub):
    _, answer = hub
    answer.append((200, {}))
    assert hub_refusal("model", "owner/name") is None
    assert hub_refusal("data set", "owner/name") is None
    assert "'owner/name'" in (hub_refusal("model", "./no/such/folder") or "")
