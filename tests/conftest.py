"""Backbones and corpora that many tests share; they are never changed, so each is created once per session."""

import os
import shutil

# No test downloads anything, or waits for a network that is not there.
os.environ["HF_HUB_OFFLINE"] = "1"
# Tiny models gain nothing from threads, and lose a factor of 5 (measured) where another job holds the other core.
# This is set before torch is imported, and inherited by the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from typing import Any

import pytest
import torch
from running import SMALL, write_rows
from tiny import tiny_backbone, tiny_corpus, tiny_folder

from episodes import Corpus
from metawarp import Backbone
from metawarp.cli import main


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny BERT without a head, float64."""
    return tiny_backbone(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_mlm(tmp_path_factory):
    """A tiny BERT with its masked-LM head, float64."""
    return tiny_backbone(tmp_path_factory.mktemp("tiny_mlm"), head=True)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with what the command line reads: tiny.jsonl, backbone/, and an init/ trained on them."""
    folder = tmp_path_factory.mktemp("made")
    write_rows(folder / "tiny.jsonl", tiny_corpus())
    tiny_folder(folder / "backbone")
    main(["train", f"--corpus={folder}/tiny.jsonl", f"--backbone={folder}/backbone", *SMALL, f"--output={folder}/init"])
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of tiny.jsonl and of the init of `made`, which a test may change."""
    shutil.copytree(made / "init", tmp_path / "init")
    shutil.copy(made / "tiny.jsonl", tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def minilm():
    """The embedded backbone all-MiniLM-L6-v2, float32."""
    return Backbone.load("minilm")


@pytest.fixture(scope="session")
def everyday():
    """The bundled corpus "everyday", divided by its own class split."""
    return Corpus.load("everyday").split_classes("everyday")


@pytest.fixture
def exact(monkeypatch):
    """No float32 inside a float64 model, where transformers computes the norms of DeBERTa and of decoders, and
    ModernBERT's rotations."""
    to: Any = torch.Tensor.to

    def in_double(tensor, *given, **named):
        return to(tensor, *(torch.float64 if one is torch.float32 else one for one in given), **named)

    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(torch.Tensor, "to", in_double)
