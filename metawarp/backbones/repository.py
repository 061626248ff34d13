"""The files of a checkpoint: a folder, or a repository on the Hub, of which the local cache may have a copy."""

from dataclasses import dataclass
from pathlib import Path

from episodes.hub import hub_refusal


@dataclass(frozen=True)
class Repository:
    """A place that holds a checkpoint.

    Attributes:
        source: folder or Hub id.
        refusal: why the Hub does not provide it; None for a folder, or if the Hub provides it.
    """

    source: str
    refusal: str | None

    @classmethod
    def of(cls, source: str) -> "Repository":
        """The repository of a folder or Hub id; asks the Hub about the latter."""
        return cls(source, None if Path(source).is_dir() else hub_refusal("model", source))

    @property
    def local_only(self) -> bool:
        """Whether files come from the disk alone; the local cache may have what the Hub does not provide."""
        return Path(self.source).is_dir() or self.refusal is not None

    def file(self, name: str) -> Path | None:
        """Local path of a file, downloaded if necessary; None if the repository does not have it."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        if Path(self.source).is_dir():
            path = Path(self.source) / name
            return path if path.is_file() else None
        try:
            return Path(hf_hub_download(self.source, name, local_files_only=self.local_only))
        except EntryNotFoundError:
            return None
