"""The read-outs by name."""

from metawarp.read_outs.concatenation import Concatenation
from metawarp.read_outs.read_out import ReadOut
from metawarp.read_outs.replaced_token import ReplacedToken

READ_OUTS: dict[str, type[ReadOut]] = {"replaced_token": ReplacedToken}
"""Read-outs that are not a concatenation of features."""


def read_out_named(name: str) -> type[ReadOut]:
    """The read-out that `WarpConfig.read_out` names."""
    return READ_OUTS.get(name, Concatenation)
