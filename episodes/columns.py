"""The columns of a file, as its reader gives them."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Columns:
    """The columns of a file.

    Attributes:
        name: name of the file in messages.
        names: names of all columns.
        cells: cells of the wanted columns, at least.
        class_names: names of the classes of columns of label ids, in their order; their cells are names already.
    """

    name: str
    names: Collection[str]
    cells: dict[str, list[Any]]
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
