"""The median by way of a bracket: NumPy's own, whatever the values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offsky.combine.median import _bracketed, median


def values_of(kind: str, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = {
        "noise": lambda: rng.normal(size=n),
        "sorted": lambda: np.sort(rng.normal(size=n)),
        "periodic, as rows are": lambda: np.arange(n) % 2048,
        "constant": lambda: np.ones(n),
        "few levels": lambda: rng.integers(0, 3, n),
        "two far apart": lambda: np.where(rng.random(n) < 0.5, -1e30, 1e30),
        "infinite": lambda: np.where(rng.random(n) < 0.3, np.inf, rng.normal(size=n)),
    }[kind]()
    return np.asarray(made, dtype=np.float32)


@pytest.mark.parametrize(
    "kind",
    [
        "noise",
        "sorted",
        "periodic, as rows are",
        "constant",
        "few levels",
        "two far apart",
        "infinite",
    ],
)
@given(seed=st.integers(0, 99), n=st.sampled_from([1, 2, 1001, 100_000, 100_001, 262_144]))
def test_it_is_that_of_numpy(kind: str, seed: int, n: int) -> None:
    values = values_of(kind, n, seed)
    values[np.random.default_rng(seed).random(n) < 0.02 * (seed % 3)] = np.nan
    known = values[~np.isnan(values)]
    before = values.copy()
    if known.size:
        assert median(values, known.size) == float(np.median(known))
    np.testing.assert_array_equal(values, before)


def test_the_bracket_holds_where_columns_differ() -> None:
    # An even step would see every 128th column of a full frame alone, all of one level here.
    values = np.tile(np.arange(2048, dtype=np.float32) % 128, 2048)
    assert _bracketed(values, values.size) == 63.5


def test_it_is_none_of_nothing_and_nan_where_a_value_that_counts_is() -> None:
    values = values_of("noise", 200_000, 1)
    values[7] = np.nan
    assert median(values, 0) is None
    assert np.isnan(median(values, values.size))
