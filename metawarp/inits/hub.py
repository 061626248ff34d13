"""Inits on the Hugging Face Hub: a repository of three files, the folder of a saved init as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCardData, is_offline_mode, snapshot_download

from episodes import InputError
from episodes.errors import first_line
from episodes.hub import hub_refusal

FILES = ("init.safetensors", "config.json", "README.md")
"""What a repository has of an init."""

_HUB_NAMES = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}


def is_hub_id(name: str) -> bool:
    """Whether a name that is no folder may be one of the Hub: "owner/name"."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith(".")


def downloaded(name: str, revision: str | None = None) -> Path:
    """The folder of an init's files, from the Hub or the local cache.

    Args:
        name: "owner/name".
        revision: branch, tag or commit; None: the main branch.

    Raises:
        InputError: the Hub does not hand it out, and the local cache has it not.
    """
    refusal = None if is_offline_mode() else hub_refusal("model", name)
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # whatever the client makes of it: its own errors, httpx's, OSError
        reason = refusal or first_line(error)
        raise InputError(f"init {name!r} is neither a folder here nor a shipped one, and {reason}.") from error


def upload(folder: Path, name: str, *, private: bool = False, token: str | None = None) -> str:
    """Put the files of an init into a repository, which is made where it is missing; returns its address.

    Raises:
        InputError: the name is no Hub id, or the Hub refuses.
    """
    if not is_hub_id(name):
        raise InputError(f"{name!r} is no Hub id such as 'owner/name'.")
    hub = HfApi(token=token)
    try:
        address = hub.create_repo(name, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=list(FILES), commit_message="Upload a metawarp init"
        )
    except Exception as error:
        raise InputError(
            f"init {name!r} could not be uploaded ({first_line(error)}); log in with `hf auth login`, or give a token."
        ) from error
    return str(address)


def hub_header(config: Mapping[str, Any], license: str) -> str:
    """The lines before a card that the Hub sorts models by: YAML between two rules."""
    backbone = config["backbone"]["name"]
    data = ModelCardData(
        license=license,
        library_name="metawarp",
        pipeline_tag="text-classification",
        base_model=_HUB_NAMES.get(backbone, backbone if is_hub_id(backbone) else None),
        tags=["few-shot", "meta-learning", "soft-prompt", config["method"]],
    )
    return f"---\n{data.to_yaml()}\n---\n\n"
