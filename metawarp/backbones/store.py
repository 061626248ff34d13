"""Backbones that are loaded once and shared by everybody who asks for the same one, unpickled objects among them."""

import copyreg
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from episodes import InputError
from episodes.paths import user_path
from metawarp.backbones.backbone import Backbone


class BackboneStore:
    """At most `capacity` loaded backbones; beyond that, the least recently used one is released.

    Threads that ask for the same one at the same time wait for one loading.
    """

    def __init__(self, capacity: int = 2) -> None:
        self.capacity = capacity
        self._lock = Lock()
        self._loaded: OrderedDict[tuple[object, ...], Backbone] = OrderedDict()

    def get(
        self, name: str | Path | Backbone, *, device: str = "cpu", dtype: str = "float32", prompt: str | None = None
    ) -> Backbone:
        """A backbone, loaded if it is not in the store; a loaded backbone keeps its prompt if none is given.

        The arguments and errors are those of `Backbone.load`. Different spellings of one folder are the same backbone,
        which is loaded again after its files have changed.
        """
        if isinstance(name, Backbone):
            return name.with_prompt(prompt)
        folder = user_path(name)
        source = str(folder.resolve()) if folder.is_dir() else str(name)
        key = (source, _version(folder), str(device), str(dtype).removeprefix("torch."))
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = Backbone.load(source, device=device, dtype=dtype)
            self._loaded.move_to_end(key)
            while len(self._loaded) > self.capacity:
                self._loaded.popitem(last=False)
            loaded = self._loaded[key]
        return loaded.with_prompt(prompt)


def _version(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Something that changes with the files of a folder; empty if there is none."""
    # The files of a backbone are in its folder or one below; another folder may be the root of a whole disk.
    found = (*folder.glob("*"), *folder.glob("*/*")) if folder.is_dir() else ()
    files = sorted(file for file in found if file.is_file())
    facts = ((str(file.relative_to(folder)), file.stat()) for file in files)
    return tuple((name, one.st_mtime_ns, one.st_size) for name, one in facts)


BACKBONES = BackboneStore()
"""The store of this process, which classifiers and saved tasks use: clones in a grid search share one backbone."""


def _pickled(backbone: Backbone) -> tuple[Callable[..., Backbone], tuple[Any, ...]]:
    """A backbone as a pickle holds it: where it is, and its settings, without its weights."""
    folder = user_path(backbone.name)
    name = str(folder.resolve()) if folder.is_dir() else backbone.name
    settings = str(backbone.device), str(backbone.dtype).removeprefix("torch."), backbone.prompt, backbone.max_tokens
    return _found_again, (name, backbone.fingerprint, *settings)


def _found_again(name: str, fingerprint: str, device: str, dtype: str, prompt: str, max_tokens: int) -> Backbone:
    """The backbone of a pickle, from the store; InputError if it is not there, or another one is."""
    loaded = BACKBONES.get(name, device=device, dtype=dtype)
    if loaded.fingerprint != fingerprint:
        problem = (
            f"This pickle needs backbone {name!r} ({fingerprint}), but another one ({loaded.fingerprint}) is there"
        )
        raise InputError(f"{problem}; put the old one there, or fit again.")
    return replace(loaded, prompt=prompt, max_tokens=max_tokens)


copyreg.pickle(Backbone, _pickled)
