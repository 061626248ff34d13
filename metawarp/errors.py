"""Errors that the user's input does not cause; for those that it causes, see `episodes.InputError`."""

INTERRUPTED = 130
"""Exit code of a program that was interrupted from the keyboard, as shells define it."""


class DivergenceError(ArithmeticError):
    """The loss or the meta-gradient of a training is not finite any more."""


class MemoryLimitError(MemoryError):
    """The requested computation does not fit into memory. It is raised before anything is allocated."""
