"""Errors that are not caused by the user's input; that one is `episodes.InputError`."""


class DivergenceError(ArithmeticError):
    """The loss or the meta-gradient of a training is not finite any more."""


class MemoryLimitError(MemoryError):
    """The requested computation does not fit into memory. It is raised before anything is allocated."""
