"""Where a backbone computes, and in which data type."""

import torch

from episodes.errors import InputError, first_line, listing

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""Data types of the weights and activations of a backbone."""


def usable_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """One of `DTYPES` by its name; InputError for other ones."""
    value = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype, None)
    if value not in DTYPES:
        names = listing(str(one).removeprefix("torch.") for one in DTYPES)
        raise InputError(f"dtype={str(dtype)!r} is not a data type that backbones compute in; use {names} or auto.")
    return value


def usable_device(device: str | torch.device) -> torch.device:
    """A device of this machine; InputError if torch does not know it, or cannot compute on it here."""
    try:
        found = torch.device(device)
    except RuntimeError:
        raise InputError(f"device={device!r} is not a device; use cpu, or cuda or mps where there is one.") from None
    try:
        if torch.empty(0, device=found).is_meta:
            raise RuntimeError("it holds no numbers")
    except (RuntimeError, AssertionError, ImportError) as error:
        raise InputError(f"device={str(device)!r} cannot be used here ({first_line(error)}); use cpu.") from error
    return found
