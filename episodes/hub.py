"""The Hugging Face Hub: what stands in the way of it, and its data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from episodes.errors import InputError, first_line

if TYPE_CHECKING:
    from datasets import Dataset

_TIMEOUT = 10.0  # seconds to wait for the Hub's first answer


def hub_refusal(kind: Literal["model", "data set"], name: str) -> str | None:
    """Why the Hub does not hand out a model or a data set; None where it does.

    One request tells at once. `from_pretrained` and `load_dataset` try for 24 s without a network (measured).
    """
    from huggingface_hub import HfApi, errors, is_offline_mode

    # httpx's or httpx2's, as the client's release has it
    http_error: type[Exception] = errors.HTTPError  # pyright: ignore[reportPrivateImportUsage]
    if is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
    try:
        ask(name, timeout=_TIMEOUT)
    except errors.HFValidationError:
        return "it is no Hub id such as 'owner/name'"
    except errors.GatedRepoError:
        return "the Hub wants its terms accepted: do so on its page, and log in with `hf auth login`"
    except errors.RepositoryNotFoundError:
        return f"the Hub has no public {kind} of this name (for a private one, log in with `hf auth login`)"
    except errors.HfHubHTTPError as error:
        return f"the Hub refuses for now ({first_line(error)})"
    except (http_error, OSError) as error:
        return f"the Hub could not be reached ({type(error).__name__})"
    return None


def load_hub_dataset(source: str, subset: str | None, split: str | None) -> Dataset:
    """One split of a Hub data set, downloaded or taken from the local cache.

    Args:
        source: a Hub id, such as "SetFit/20_newsgroups".
        subset: the configuration's name, where the data set has several.
        split: the split's name; "train" where it is None.

    Raises:
        InputError: the name cannot be an id, the Hub cannot be reached or does not hand out such a data set, or the
            data set has no such subset or split.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub import is_offline_mode
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(source)
    except HFValidationError:
        raise InputError(f"{source!r} is neither an existing file nor a Hub id such as 'owner/name'.") from None
    refusal = None if is_offline_mode() else hub_refusal("data set", source)  # offline, the cache may have it
    if refusal:
        raise InputError(
            f"{source} is no local file, and {refusal}. Use a local file or 'everyday', or set HF_HUB_OFFLINE=1 if it "
            "was downloaded before."
        )
    try:
        return load_dataset(source, subset, split=split or "train")
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        advice = " (HF_HUB_OFFLINE is set; use a local file or 'everyday')" if is_offline_mode() else ""
        raise InputError(f"{source} could not be loaded from the Hub{advice}: {first_line(error)}") from error
