"""Backbones that are loaded once and shared by everybody who asks for the same one."""

from collections import OrderedDict
from pathlib import Path
from threading import Lock

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

        The arguments and errors are those of `Backbone.load`. Different spellings of one folder are the same backbone.
        """
        if isinstance(name, Backbone):
            return name.with_prompt(prompt)
        folder = Path(name).expanduser()
        source = str(folder.resolve()) if folder.is_dir() else str(name)
        key = (source, str(device), str(dtype).removeprefix("torch."))
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = Backbone.load(name, device=device, dtype=dtype)
            self._loaded.move_to_end(key)
            while len(self._loaded) > self.capacity:
                self._loaded.popitem(last=False)
            loaded = self._loaded[key]
        return loaded.with_prompt(prompt)


BACKBONES = BackboneStore()
"""The store of this process, which classifiers and saved tasks use: clones in a grid search share one backbone."""
