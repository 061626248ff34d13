"""Data sets of the Hugging Face Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from episodes.errors import InputError, first_line

if TYPE_CHECKING:
    from datasets import Dataset

_TIMEOUT = 10.0  # seconds to wait for the Hub's first answer


def load_hub_dataset(source: str, subset: str | None, split: str | None) -> Dataset:
    """One split of a Hub data set, downloaded or taken from the local cache.

    Args:
        source: a Hub id, such as "SetFit/20_newsgroups".
        subset: the configuration's name, where the data set has several.
        split: the split's name; "train" where it is None.

    Raises:
        InputError: the name cannot be an id, the Hub cannot be reached or has no such data set, or the data
            set has no such subset or split.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub import is_offline_mode
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(source)
    except HFValidationError:
        raise InputError(f"{source!r} is neither an existing file nor a Hub id such as 'owner/name'.") from None
    _refuse_unreachable(source)
    try:
        return load_dataset(source, subset, split=split or "train")
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        advice = " (HF_HUB_OFFLINE is set; use a local file or 'everyday')" if is_offline_mode() else ""
        raise InputError(f"{source} could not be loaded from the Hub{advice}: {first_line(error)}") from error


def _refuse_unreachable(source: str) -> None:
    # Without a network `load_dataset` tries for 23 s (measured); one request tells at once.
    from huggingface_hub import HfApi, errors, is_offline_mode

    # httpx's or httpx2's, as the client's release has it
    http_error: type[Exception] = errors.HTTPError  # pyright: ignore[reportPrivateImportUsage]
    if is_offline_mode():
        return  # `load_dataset` then looks into the cache alone
    try:
        HfApi().dataset_info(source, timeout=_TIMEOUT)
    except errors.RepositoryNotFoundError:
        raise InputError(f"There is no file {source}, and the Hub has no public data set of this name.") from None
    except (http_error, OSError) as error:
        raise InputError(
            f"{source} is no local file, and the Hub could not be reached ({type(error).__name__}). "
            "Offline, use a local file or 'everyday', or set HF_HUB_OFFLINE=1 if it was downloaded before."
        ) from error
