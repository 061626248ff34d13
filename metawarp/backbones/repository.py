"""The files of a checkpoint: a folder, or a repository on the Hub, of which the local cache may have a copy."""

from dataclasses import dataclass
from pathlib import Path

from episodes.hub import hub_refusal
from metawarp.backbones.minilm import minilm_folder


@dataclass(frozen=True)
class Repository:
    """A place that holds a checkpoint.

    Attributes:
        name: the name that the user gave.
        source: folder or Hub id.
        refusal: why the Hub does not provide it; None for a folder, or if the Hub provides it.
    """

    name: str
    source: str
    refusal: str | None

    @classmethod
    def of(cls, name: str) -> "Repository":
        """The repository of "minilm", a folder or a Hub id; asks the Hub about the last."""
        source = minilm_folder() if name == "minilm" else name
        return cls(name, source, None if Path(source).is_dir() else hub_refusal("model", source))

    @property
    def local_only(self) -> bool:
        """Whether files come from the disk alone; the local cache may have what the Hub does not provide."""
        return Path(self.source).is_dir() or self.refusal is not None

    def file(self, name: str, folder: str = "") -> Path | None:
        """Local path of a file in a folder, downloaded if necessary; None if the repository does not have it."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        path = f"{folder}/{name}" if folder else name
        if Path(self.source).is_dir():
            local = Path(self.source) / path
            return local if local.is_file() else None
        try:
            return Path(hf_hub_download(self.source, path, local_files_only=self.local_only))
        except LocalEntryNotFoundError:
            if not self.local_only:
                raise  # the connection failed, which does not mean that there is no such file
            return None
        except EntryNotFoundError:
            return None
