"""What holds for any exposures, whatever they are."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_same_average, same_bits
from strategies import sigmas, stacks

import offsky

# Noise without ties, and thresholds that no few samples can meet exactly (as two do with 1): no
# sample lies on a bound, where rounding decides.
generic_sigmas = st.sampled_from([0.53, 1.27, 1.37, 1.73, 2.19, 3.07, 7.1])
seeds = st.integers(0, 2**32 - 1)
numbers = st.integers(1, 40)


def noise(seed: int, n: int, dtype: str = "f8") -> np.ndarray:
    rng = np.random.default_rng(seed)
    sci = rng.normal(10.0, 1.0, (n, 50))
    sci[rng.random(sci.shape) < 0.1] += 30.0
    sci[rng.random(sci.shape) < 0.1] = np.nan
    return sci.astype(dtype)


@given(seed=seeds, n=numbers, sigma=generic_sigmas)
def test_the_order_of_exposures_does_not_matter(
    engine: Any, seed: int, n: int, sigma: float
) -> None:
    sci = noise(seed, n)
    order = np.random.default_rng(seed).permutation(n)
    one = offsky.clipped_mean(sci, abs(sci), sigma=sigma)
    other = offsky.clipped_mean(sci[order], abs(sci[order]), sigma=sigma)
    np.testing.assert_array_equal(one.n_kept, other.n_kept)
    np.testing.assert_array_equal(one.n_rejected[order], other.n_rejected)
    # Sums in another order, rounded to float32.
    np.testing.assert_allclose(one.sci, other.sci, rtol=2e-7)
    np.testing.assert_allclose(one.err, other.err, rtol=2e-7)


@given(
    seed=seeds, n=numbers, sigma=sigmas, power=st.integers(-20, 20), sign=st.sampled_from([1, -1])
)
def test_scaling_by_a_power_of_two_scales_the_result_exactly(
    engine: Any, seed: int, n: int, sigma: float, power: int, sign: int
) -> None:
    sci = noise(seed, n)
    factor = sign * 2.0**power
    plain = offsky.clipped_mean(sci, abs(sci), sigma=sigma)
    scaled = offsky.clipped_mean(factor * sci, abs(factor * sci), sigma=sigma)
    assert same_bits(scaled.sci, plain.sci * np.float32(factor))
    assert same_bits(scaled.err, plain.err * np.float32(abs(factor)))
    assert same_bits(scaled.n_kept, plain.n_kept)


@given(seed=seeds, n=numbers, sigma=generic_sigmas, shift=st.floats(-1e4, 1e4))
def test_a_shift_moves_the_mean_and_keeps_the_same_samples(
    engine: Any, seed: int, n: int, sigma: float, shift: float
) -> None:
    sci = noise(seed, n)
    plain = offsky.clipped_mean(sci, sigma=sigma)
    moved = offsky.clipped_mean(sci + shift, sigma=sigma)
    assert same_bits(moved.n_kept, plain.n_kept)
    assert same_bits(moved.n_rejected, plain.n_rejected)
    # Both means are rounded to float32.
    np.testing.assert_allclose(moved.sci - plain.sci.astype(float), np.where(
        plain.n_kept > 0, shift, np.nan), atol=1e-6 * (abs(shift) + 50))  # fmt: skip


@given(stack=stacks())
def test_a_huge_sigma_and_no_passes_both_give_the_plain_mean(
    engine: Any, stack: np.ndarray
) -> None:
    unclipped = offsky.clipped_mean(stack, maxiters=0)
    assert unclipped.n_rejected.sum() == 0
    np.testing.assert_array_equal(unclipped.n_kept, np.isfinite(stack).sum(axis=0))
    # Beyond, the variance overflows or vanishes, and with it every bound.
    size = abs(stack[np.isfinite(stack)].astype(float))
    if np.all((size == 0) | ((size > 1e-100) & (size < 1e100))):
        assert_same_average(offsky.clipped_mean(stack, sigma=1e9), unclipped)


@given(stack=stacks(), sigma=sigmas)
def test_clipping_again_what_was_kept_rejects_nothing_more(
    engine: Any, stack: np.ndarray, sigma: float
) -> None:
    many = offsky.clipped_mean(stack, sigma=sigma, maxiters=1000)
    assert_same_average(offsky.clipped_mean(stack, sigma=sigma, maxiters=None), many)


@given(stack=stacks(max_n=20), sigma=sigmas)
def test_a_pixel_s_result_depends_on_its_own_samples_alone(
    engine: Any, stack: np.ndarray, sigma: float
) -> None:
    together = offsky.clipped_mean(np.tile(stack, 9), sigma=sigma)
    for i in range(min(stack.shape[1], 5)):
        alone = offsky.clipped_mean(stack[:, i : i + 1], sigma=sigma)
        for repeat in range(9):
            j = repeat * stack.shape[1] + i
            assert same_bits(together.sci[j : j + 1], alone.sci)


@settings(max_examples=50)
@given(seed=seeds, n=numbers)
def test_one_exposure_comes_back_as_it_is(engine: Any, seed: int, n: int) -> None:
    sci = noise(seed, n, "f4")[0]
    got = offsky.clipped_mean(sci[np.newaxis], abs(sci[np.newaxis]))
    assert same_bits(got.sci, sci)
    assert same_bits(got.err, abs(sci))
    np.testing.assert_array_equal(got.n_kept, np.isfinite(sci))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_kept_sample_without_finite_err_takes_the_mean_variance_of_the_others(
    engine: Any, bad: float
) -> None:
    sci = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    err = np.array([[3.0, bad], [bad, bad], [4.0, bad]])
    got = offsky.clipped_mean(sci, err)
    # Variances 9, 12.5 and 16; where no ERR is known the result's is not either.
    assert got.err is not None
    assert got.err[0] == np.float32(np.sqrt(37.5) / 3)
    assert np.isnan(got.err[1])
    assert got.sci.tolist() == [2.0, 2.0]
    assert got.n_err_estimated == 1


def test_the_err_of_a_rejected_sample_does_not_count(engine: Any) -> None:
    sci = np.array([[1.0]] * 10 + [[100.0]])
    err = np.array([[0.1]] * 10 + [[np.nan]])
    got = offsky.clipped_mean(sci, err)
    assert got.n_rejected.tolist() == [0] * 10 + [1]
    assert got.n_err_estimated == 0
    np.testing.assert_allclose(got.err, 0.1 / np.sqrt(10), rtol=1e-6)


def test_dq_is_combined_over_all_exposures_also_rejected_and_missing_ones(engine: Any) -> None:
    sci = np.array([[1.0]] * 10 + [[100.0], [np.nan]])
    dq = np.zeros((12, 1), dtype=np.uint32)
    dq[[0, 10, 11], 0] = 4, 2**31, 1
    got = offsky.clipped_mean(sci, dq=dq)
    assert got.dq is not None
    assert got.dq.tolist() == [2**31 + 5]
    assert got.n_kept.tolist() == [10]


def test_a_pixel_without_a_sample_is_nan_with_a_count_of_none(engine: Any) -> None:
    got = offsky.clipped_mean(np.full((4, 2), np.nan), np.ones((4, 2)))
    assert np.isnan(got.sci).all()
    assert got.err is not None
    assert np.isnan(got.err).all()
    assert got.n_kept.tolist() == [0, 0]
    assert got.n_err_estimated == 0


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.array([[1], [64]], dtype=np.int8), 65),
        (np.array([[-128], [1]], dtype=np.int8), 129),
        (np.array([[-(2**15)], [1]], dtype=np.int16), 2**15 + 1),
        (np.array([[2**15], [1]], dtype=np.uint16), 2**15 + 1),
        (np.array([[-(2**31)], [1]], dtype=np.int32), 2**31 + 1),
        (np.array([[2**31], [1]], dtype=np.int64), 2**31 + 1),
        (np.array([[True], [False]]), 1),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
def test_flags_of_any_integer_type_keep_their_bits(
    engine: Any, stored: np.ndarray, expected: int
) -> None:
    got = offsky.clipped_mean(np.zeros((2, 1)), dq=stored)
    assert got.dq is not None
    assert got.dq.tolist() == [expected]
