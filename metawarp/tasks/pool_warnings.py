"""Warnings about unlabelled texts that probably do not belong to the classes of a task."""

import logging
from collections.abc import Sequence

from episodes.errors import quoted
from metawarp.verbalizers.pool_record import PoolRecord

logger = logging.getLogger(__name__)

# The limits are beyond what pools of five corpora have with 0, 1 and 5 texts per class, proportions of 20 : 1 and 30 %
# distractors. There, the rarest class has 0.19 of an equal share, and at most half of the texts are unlike.
ABSENT_SHARE, TEXTS_PER_CLASS = 0.15, 20
"""A class seems absent below this fraction of an equal share, if there are so many unlabelled texts per class."""

UNLIKE_SHARE, LEAST_LABELLED = 0.65, 20
"""Texts seem to be of another kind if more than this share is unlike the labelled ones, of which there are so many."""


def warn_about_pool(record: PoolRecord, class_names: Sequence[str]) -> None:
    """Log a warning if the unlabelled texts of a task with C classes are mostly of another kind; otherwise, if they
    seem to lack a class."""
    n_classes = len(class_names)
    if record.n_labelled >= LEAST_LABELLED and record.unlike > UNLIKE_SHARE:
        message = (
            "%.0f %% of the unlabelled texts are unlike every labelled text: give texts of the kind to be classified"
        )
        logger.warning(message, 100 * record.unlike)
        return
    limit = ABSENT_SHARE / n_classes
    absent = [name for name, share in zip(class_names, record.shares.tolist(), strict=True) if share < limit]
    if absent and record.n_texts >= TEXTS_PER_CLASS * n_classes:
        logger.warning("almost no unlabelled text seems to belong to these classes: %s", quoted(absent, 3))
