"""A clip that can reject nothing is warned of, neither too early nor too late."""

from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain import in_memory

import offsky
from offsky.combine.rule import largest_deviation
from offsky.options import Options
from offsky.selection.choose import choose_backgrounds
from offsky.selection.suitability import Policy, clip_warning


@pytest.mark.parametrize("n", range(1, 12))
def test_at_three_sigma_up_to_seven_backgrounds_are_warned_of(
    n: int, caplog: pytest.LogCaptureFixture
) -> None:
    target = in_memory("t")
    backgrounds = [in_memory(f"b{i}") for i in range(n)]
    choose_backgrounds(target, backgrounds, policy=Policy(), options=Options())
    warned = [text for text in caplog.messages if "rejects nothing" in text]
    assert len(warned) == (2 <= n <= 7)
    assert all(f"with {n} backgrounds" in text and "would help" in text for text in warned)
    assert all(("a sigma below" in text) == (n > 2) for text in warned)


def attains(n: int) -> np.ndarray:
    """Return n samples of which the last is as far from the median as can be."""
    m = n // 2 + 1
    return np.array([0.0] * m + [1 / (m + 1)] * (n - m - 1) + [1.0])


def reach(samples: np.ndarray) -> float:
    """Return the largest distance from the median, in standard deviations."""
    return float(np.abs(samples - np.median(samples)).max() / samples.std())


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7, 8, 9, 20, 51])
def test_the_bound_is_attained_and_not_the_one_often_quoted(n: int) -> None:
    m = n // 2 + 1
    bound = sqrt(n * (m + 1) / m)
    assert largest_deviation(n) == pytest.approx(bound, rel=1e-12)
    assert reach(attains(n)) == pytest.approx(bound, rel=1e-12)
    assert bound >= n / sqrt(n - 1) * (1 - 1e-12)
    # A threshold just below rejects that sample, so no warning may be given there.
    samples = attains(n).reshape(n, 1)
    below, above = bound * (1 - 1e-6), bound * (1 + 1e-6)
    assert offsky.clipped_mean(samples, sigma=below, maxiters=1).n_kept[0] < n
    assert clip_warning(n, Options(sigma=below)) is None
    assert offsky.clipped_mean(samples, sigma=above).n_kept[0] == n
    assert clip_warning(n, Options(sigma=above)) is not None


@given(st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=12))
def test_no_sample_is_farther_than_the_bound(values: list[int]) -> None:
    samples = np.array(values, dtype=float)
    if np.ptp(samples):
        assert reach(samples) <= largest_deviation(len(values)) * (1 + 1e-12)


def test_the_threshold_that_is_recommended_can_reject() -> None:
    for n in range(3, 60):
        text = clip_warning(n, Options(sigma=1000.0)) or ""
        recommended = float(text.partition("a sigma below ")[2].partition(" ")[0])
        assert clip_warning(n, Options(sigma=recommended)) is None


def test_who_wants_no_clipping_is_not_warned() -> None:
    assert clip_warning(5, Options(maxiters=0)) is None
    assert clip_warning(5, Options(sigma=inf)) is not None
