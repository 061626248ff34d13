"""Parameters of tests that are slow."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """One parameter, or one row of parameters, that is tested by `make test-all` alone."""
    return pytest.param(*values, marks=pytest.mark.slow)


def slow_except(quick: Any, values: Iterable[Any]) -> list[Any]:
    """Parameters of which only `quick` is tested by `make test`."""
    return [value if value == quick else slow(value) for value in values]
