"""The forms of prompt, by name in one table."""

from __future__ import annotations

import re

from episodes import InputError
from episodes.errors import listing
from metawarp.forms.deep_prompt import DeepPrompt
from metawarp.forms.form import Form
from metawarp.forms.input_prompt import InputPrompt
from metawarp.forms.low_rank import LowRank
from metawarp.forms.prefix import Prefix
from metawarp.forms.prompt_pool import PromptPool
from metawarp.forms.weights import Weights

FORMS: dict[str, type[Form]] = {
    "input": InputPrompt,
    "deep": DeepPrompt,
    "prefix": Prefix,
    "pool": PromptPool,
    "lora": LowRank,
    "weights": Weights,
}
"""A new form is one more entry."""


def form_of(written: str) -> tuple[type[Form], int | None]:
    """The form that a config names, such as "input", or "pool:8" with the number behind it.

    Raises:
        InputError: no such form; a number missing, or one too many.
    """
    found = re.fullmatch(r"([a-z]+)(?::0*([1-9][0-9]*))?", written)
    if found is None or found[1] not in FORMS:
        names = (f"{name}:8" if form.counts else name for name, form in FORMS.items())
        raise InputError(f"form is {written!r}; it can be {listing(names)}.")
    form, number = FORMS[found[1]], found[2]
    if form.counts and number is None:
        raise InputError(f"form {written!r} needs its number of {form.counts} behind it, such as {written}:8.")
    if number is not None and not form.counts:
        raise InputError(f"form {written!r} has no number behind it; write {found[1]}.")
    return form, None if number is None else int(number)
