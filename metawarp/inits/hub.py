"""Inits on the Hugging Face Hub: a repository holds the three files of a saved init."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCardData, is_offline_mode, snapshot_download

from episodes.errors import InputError, first_line
from episodes.hub import hub_refusal
from metawarp.inits.file import INIT_FILES

_HUB_NAMES = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}


def is_hub_id(name: str) -> bool:
    """Whether a name that is not a folder may be a Hub id such as "owner/name"."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith(".")


def download_init(name: str, revision: str | None = None) -> Path:
    """The folder with an init's files, of a branch, tag or commit (None: the main branch), from the Hub or else the
    local cache; InputError if neither has it."""
    refusal = None if is_offline_mode() else hub_refusal("model", name)
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(INIT_FILES)))
    except Exception as error:  # whatever the client raises: its own errors, httpx's, OSError
        reason = refusal or first_line(error)
        raise InputError(
            f"init={name!r} is no folder here, and as the name of an init on the Hub: {reason}."
        ) from error


def upload_init(folder: Path, name: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload the files of an init into a repository, created if it is missing; returns its address. InputError if the
    name is not a Hub id, or the Hub refuses."""
    if not is_hub_id(name):
        raise InputError(f"{name!r} is not a Hub id such as 'owner/name'.")
    hub = HfApi(token=token)
    try:
        address = hub.create_repo(name, private=private, exist_ok=True)
        message = "Upload a metawarp init"
        hub.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(INIT_FILES), commit_message=message)
    except Exception as error:
        advice = "log in with `hf auth login`, or give a token"
        raise InputError(f"The init could not be uploaded to {name!r} ({first_line(error)}); {advice}.") from error
    return str(address)


def hub_header(config: Mapping[str, Any], license: str) -> str:
    """The YAML header of a card, by which the Hub sorts models."""
    backbone = config["backbone"]["name"]
    base_model = _HUB_NAMES.get(backbone, backbone if is_hub_id(backbone) else None)
    tags = ["few-shot", "meta-learning", "soft-prompt", config["method"]]
    kind: dict[str, Any] = {"library_name": "metawarp", "pipeline_tag": "text-classification"}
    data = ModelCardData(license=license, base_model=base_model, tags=tags, **kind)
    return f"---\n{data.to_yaml()}\n---\n\n"
