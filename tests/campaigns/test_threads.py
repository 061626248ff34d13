"""Eight threads that predict new texts for minutes: the memory stays the same, and so do the answers."""

import os
import random
import threading
import time

import numpy as np
import psutil
import pytest
from classifiers import LABELS, TEXTS
from tiny import tiny_folder
from tiny_tokenizers import WORDS

from metawarp import WarpClassifier

SECONDS = float(os.environ.get("METAWARP_SECONDS", "30"))
"""Duration of the predictions."""

THREADS = 8
MOST_GROWTH = 64 * 2**20
"""Bytes by which the process may grow after the first fifth of the time; each kept text would add some 10 kB."""


@pytest.mark.slow
def test_threads_predict_new_texts_in_constant_memory(tmp_path):
    model = WarpClassifier("general", str(tiny_folder(tmp_path))).fit(TEXTS, LABELS)
    process, ends = psutil.Process(), time.monotonic() + SECONDS
    samples: list[tuple[list[str], np.ndarray]] = []
    counts, errors = [0] * THREADS, []

    def predict(index):
        draw = random.Random(index)
        try:
            while time.monotonic() < ends:
                texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 40))) for _ in range(32)]
                found = model.predict_proba(texts)
                counts[index] += len(texts)
                if draw.random() < 0.02:
                    samples.append((texts, found))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=predict, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    time.sleep(SECONDS / 5)
    early = process.memory_info().rss
    for thread in threads:
        thread.join()
    grown = process.memory_info().rss - early
    print(f"{sum(counts):,} texts in {SECONDS:.0f} s by {THREADS} threads: the memory grew by {grown / 2**20:.1f} MiB")
    assert not errors and grown < MOST_GROWTH
    for texts, found in samples:
        assert np.allclose(model.predict_proba(texts), found, atol=1e-6)
