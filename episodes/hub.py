"""The Hugging Face Hub: why it refuses a repository, and loading its data sets."""

from typing import TYPE_CHECKING, Literal

from episodes.errors import InputError, first_line

if TYPE_CHECKING:
    from datasets import Dataset

_TIMEOUT = 10.0  # seconds to wait for the Hub's first answer


def hub_refusal(kind: Literal["model", "data set"], name: str) -> str | None:
    """The reason why the Hub does not provide a model or data set; None if it does.

    It takes one request. `from_pretrained` and `load_dataset` retry for 24 s without a network (measured).
    """
    from huggingface_hub import HfApi, errors, is_offline_mode

    # The class is httpx's or httpx2's, depending on the client's release.
    http_error: type[Exception] = errors.HTTPError  # pyright: ignore[reportPrivateImportUsage]
    if is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
    try:
        ask(name, timeout=_TIMEOUT)
    except errors.HFValidationError:
        return "the name is not a Hub id such as 'owner/name'"
    except errors.GatedRepoError:
        return "the Hub asks for its terms to be accepted: accept them on its page and log in with `hf auth login`"
    except errors.RepositoryNotFoundError:
        return f"the Hub has no public {kind} of this name (for a private one, log in with `hf auth login`)"
    except errors.HfHubHTTPError as error:
        return f"the Hub refused the request ({first_line(error)})"
    except (http_error, OSError) as error:
        return f"the Hub could not be reached ({type(error).__name__})"
    return None


def load_hub_dataset(source: str, subset: str | None, split: str | None) -> "Dataset":
    """One split (None: "train") of a Hub data set such as "SetFit/20_newsgroups", downloaded or from the local cache.

    InputError if the name is not a Hub id, the Hub cannot be reached, or it has no such data set, subset or split.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub import is_offline_mode
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(source)
    except HFValidationError:
        raise InputError(f"{source!r} is neither an existing file nor a Hub id such as 'owner/name'.") from None
    if not is_offline_mode() and (refusal := hub_refusal("data set", source)):  # offline, the local cache may have it
        advice = "Use a local file or 'everyday', or set HF_HUB_OFFLINE=1 if the data set was downloaded before"
        raise InputError(f"{source!r} is not a local file, and {refusal}. {advice}.")
    try:
        return load_dataset(source, subset, split=split or "train")
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        advice = " (HF_HUB_OFFLINE is set; use a local file or 'everyday')" if is_offline_mode() else ""
        raise InputError(f"{source!r} could not be loaded from the Hub{advice}: {first_line(error)}") from error
