"""The verbalizers by name."""

from metawarp.config import VerbalizerName
from metawarp.verbalizers.mix import Mix
from metawarp.verbalizers.names import Names
from metawarp.verbalizers.regression import Regression
from metawarp.verbalizers.replaced_token import ClassWords
from metawarp.verbalizers.support import SupportMeans
from metawarp.verbalizers.verbalizer import Verbalizer

VERBALIZERS: dict[VerbalizerName, Verbalizer] = {
    "names": Names(),
    "support": SupportMeans(),
    "mix": Mix(),
    "regression": Regression(),
    "replaced_token": ClassWords(),
}
"""A new verbalizer is one more entry here, and its name in `VerbalizerName`."""
