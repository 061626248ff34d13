"""The feature cache: its limit in bytes, the order in which entries are dropped, threads, and scopes."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny import features, tiny_model

from metawarp.texts.feature_cache import CacheScope, FeatureCache, from_bytes, to_bytes


def entries(numbers, size=1000):
    return {f"key {i}".encode(): bytes([i % 256]) * size for i in numbers}


def test_the_bytes_in_use_are_at_least_those_of_keys_and_values():
    cache = FeatureCache()
    assert (len(cache), cache.n_bytes) == (0, 0)
    cache.put(entries(range(10)))
    held = sum(sys.getsizeof(key) + sys.getsizeof(value) for key, value in entries(range(10)).items())
    used = cache.n_bytes
    assert held <= used <= 1.5 * held
    cache.put(entries(range(10)))
    assert (len(cache), cache.n_bytes) == (10, used)  # an entry is not counted twice


def test_the_limit_is_respected_and_the_longest_unused_are_dropped():
    one = FeatureCache()
    one.put(entries([0]))
    cache = FeatureCache(3 * one.n_bytes)
    for i in range(3):
        cache.put(entries([i]))
    cache.get(list(entries([0])))
    cache.put(entries([3]))
    assert cache.n_bytes <= cache.max_bytes and len(cache) == 3
    assert cache.get(list(entries(range(4)))) == entries([0, 2, 3])
    cache.put(entries([9], size=cache.max_bytes))  # larger than the cache
    assert (len(cache), cache.n_bytes) == (0, 0)


def test_threads_read_what_they_have_put_and_the_size_stays_right():
    cache = FeatureCache(50_000)

    def work(i):
        wanted = entries(range(i % 40, i % 40 + 5))
        cache.put(wanted)
        found = cache.get(list(wanted))
        assert all(wanted[key] == value for key, value in found.items())
        assert cache.n_bytes <= cache.max_bytes + 5 * 1300

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(500)))
    kept, again = cache.get(list(entries(range(45)))), FeatureCache()
    again.put(kept)
    assert len(kept) == len(cache) > 0
    assert cache.n_bytes == again.n_bytes <= cache.max_bytes


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_are_restored_from_bytes(dtype):
    rows = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(from_bytes(to_bytes(rows), dtype).view(3, 4), rows)
    assert from_bytes([], dtype).shape == (0,)


def test_results_of_different_models_are_separate(tiny):
    cache, batch = FeatureCache(), tiny_model(tiny)[0].encoder(["alarm"])
    for name, value in (("x", 1.0), ("y", 2.0), ("x", 3.0)):
        scope = CacheScope(cache, "embeddings", name)
        rows = scope.rows(batch, lambda new, value=value: torch.full((len(new), 1), value), (1,), torch.float32)
        assert rows.item() == (2.0 if name == "y" else 1.0)


def test_only_texts_that_are_not_cached_are_computed(tiny):
    warp, _ = tiny_model(tiny)
    computed = []

    def compute(batch):
        computed.append(len(batch))
        return batch.lengths[:, None].double()

    scope = CacheScope(FeatureCache(), "lengths")
    for texts in (["alarm", "set the alarm", "alarm"], ["rain", "alarm"]):
        batch = warp.encoder(texts)
        assert scope.rows(batch, compute, (1,), torch.float64)[:, 0].tolist() == batch.lengths.tolist()
    assert computed == [2, 1]


def test_a_model_keeps_nothing_unless_it_is_given_a_cache(tiny):
    cache = FeatureCache()
    for given, filled in ((None, False), (cache, True)):
        warp, init = tiny_model(tiny, cache=given)
        features(warp, init, ["set the alarm"])
        assert (len(cache) > 0) == filled and warp.cache is given
