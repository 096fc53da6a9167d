"""The limiter: never above the ceiling, one gain for all stems, nothing changed where nothing clips."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.media.limiter import Limiter


def limited(stems, block, ceiling=0.9):
    limiter = Limiter(ceiling, len(stems))
    parts = [limiter.push(*(stem[n : n + block] for stem in stems)) for n in range(0, len(stems[0]), block)]
    parts.append(limiter.flush())
    return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)], limiter


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20000), st.integers(1, 7000), st.floats(0.01, 5.0), st.integers(0, 2**32 - 1))
def test_never_above_the_ceiling_and_always_the_same_length(frames, block, level, seed):
    rng = np.random.default_rng(seed)
    stems = [(level * rng.standard_normal((frames, 2)) ** 3).astype(np.float32) for _ in range(2)]
    (one, two), _ = limited(stems, block)
    assert one.shape == two.shape == (frames, 2)
    assert max(np.abs(one).max(), np.abs(two).max()) <= 0.9 + 1e-5


def test_one_gain_for_all_stems():
    rng = np.random.default_rng(1)
    stems = [rng.uniform(-0.5, 0.5, (30000, 2)).astype(np.float32) for _ in range(2)]
    stems[0][12000] = 4.0
    (one, two), limiter = limited(stems, 4096)
    np.testing.assert_allclose(one * stems[1], two * stems[0], rtol=1e-4, atol=1e-6)
    assert limiter.lowest == pytest.approx(0.9 / 4.0)
    assert np.array_equal(two[:9000], stems[1][:9000])
    assert np.array_equal(two[15000:], stems[1][15000:])


def test_what_is_not_too_loud_passes_unchanged():
    quiet = np.random.default_rng(2).uniform(-0.89, 0.89, (10001, 2)).astype(np.float32)
    (one, two), limiter = limited([quiet, quiet], 640)
    assert np.array_equal(one, quiet)
    assert np.array_equal(two, quiet)
    assert limiter.lowest == 1.0


def test_the_gain_moves_smoothly():
    stem = np.full((20000, 2), 0.5, np.float32)
    stem[10000:10010] = 2.0
    (out,), _ = limited([stem], 3000)
    gain = out[:, 0] / stem[:, 0]
    assert np.abs(np.diff(gain)).max() < 0.002


def test_how_it_is_cut_into_blocks_makes_no_difference():
    stem = (np.random.default_rng(3).standard_normal((20000, 2)) * 0.5).astype(np.float32)
    (one,), _ = limited([stem], 20000)
    (many,), _ = limited([stem], 333)
    np.testing.assert_allclose(one, many, atol=1e-6)
