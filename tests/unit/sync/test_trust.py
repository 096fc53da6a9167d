"""Confidence keeps its word, and does not depend on how long the recordings are."""

import numpy as np
import pytest
from benchmarks.sync_confidence import answers

from millrace.workloads.sync import trust
from millrace.workloads.sync.result import Segment


def segment(seconds, support=0.8):
    return Segment(0.0, seconds, 0.0, 1.0, support, "phase")


def test_it_is_a_probability_that_grows_with_the_evidence():
    support, similarity = np.linspace(0, 1, 11), np.full(11, 0.5)
    by_support = trust.probability(support, similarity)
    by_similarity = trust.probability(similarity, support)
    assert (np.diff(by_support) > 0).all()
    assert (np.diff(by_similarity) > 0).all()
    weak, strong = trust.probability(np.array([0.3, 1.0]), np.array([0.06, 0.9]))
    assert weak < 0.05
    assert strong > 0.99


def test_the_same_evidence_means_the_same_for_ten_seconds_and_ten_hours():
    assert trust.confidence([segment(10)], 0.4) == trust.confidence([segment(36_000)], 0.4)
    weak, strong = segment(10, 0.5), segment(1000, 1.0)
    assert trust.confidence([weak, strong], 0.4) > trust.confidence([weak], 0.4)


@pytest.mark.parametrize("pool", [2, 4])
def test_features_averaged_for_long_recordings_are_as_alike_as_those_that_are_not(pool):
    rng = np.random.default_rng(1)
    clean = rng.standard_normal((13, 8000)).astype(np.float32)
    noisy = clean + rng.standard_normal(clean.shape).astype(np.float32)
    averaged = [part.reshape(13, -1, pool).mean(axis=2) for part in (clean, noisy)]
    whole = trust.agreement(clean, noisy, 100.0, [segment(80)])
    assert trust.agreement(*averaged, 100.0 / pool, [segment(80)]) == pytest.approx(whole, abs=1e-3)


def test_answers_are_right_as_often_as_is_said():
    """On pairs that the fit never saw, made worse until answers are wrong: see the benchmark."""
    found = [answer for number in range(16) for answer in answers(np.random.default_rng([9, number]))]
    support, similarity, right = np.array(found).T
    said = trust.probability(support, similarity)
    assert 0.1 < right.mean() < 0.95
    assert said.mean() == pytest.approx(right.mean(), abs=0.12)
    assert np.mean((said - right) ** 2) < 0.12
