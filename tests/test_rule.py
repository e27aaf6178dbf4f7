"""What options mean in numbers: factors of the median's error, weights of exposures."""

import numpy as np
import pytest

from offsky.combine.rule import exposure_weights, median_factors
from offsky.options import Options


def test_the_error_of_a_median_is_that_of_gaussian_order_statistics() -> None:
    # Exact for one to three samples; the known limit for many.
    squares = median_factors(2001) ** 2
    np.testing.assert_allclose(squares[1:4], [1, 1, 3 * (1 - np.sqrt(3) / np.pi)], rtol=1e-6)
    np.testing.assert_allclose(squares[2001], np.pi / 2, rtol=1e-3)
    # The expansion beyond the table goes on where that ends.
    np.testing.assert_allclose(squares[33:35], [1.550264, 1.508459], rtol=1e-3)
    np.testing.assert_allclose(squares[65:67], [1.560396, 1.537795], rtol=1e-3)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 10, 21, 32, 40])
def test_the_scatter_of_medians_is_what_the_factor_says(n: int) -> None:
    samples = np.random.default_rng(n).normal(size=(n, 100_000))
    scatter = np.median(samples, axis=0).std() * np.sqrt(n)
    # The scatter of 100 000 numbers is known to 0.2 %.
    np.testing.assert_allclose(median_factors(n)[n], scatter, rtol=0.01)


def test_weights_follow_the_integrations_or_the_variance_of_their_mean() -> None:
    assert exposure_weights(Options(), [1, 4]) is None
    by_number = exposure_weights(Options(weight="integrations"), [1, 4])
    np.testing.assert_array_equal(by_number, [1.0, 4.0])
    variance = Options(weight="variance")
    np.testing.assert_allclose(exposure_weights(variance, [1, 4], [0.5, 1.0]), [4.0, 4.0])
    # An unknown ERR counts as the mean variance of the others.
    for unknown in (None, np.nan, 0.0, -1.0):
        got = exposure_weights(variance, [1, 1, 2], [1.0, 3.0, unknown])
        np.testing.assert_allclose(got, [1.0, 1 / 9, 2 / 5])
    np.testing.assert_array_equal(exposure_weights(variance, [1, 2], [None, None]), [1.0, 2.0])


def test_a_weighted_median_is_refused() -> None:
    with pytest.raises(ValueError, match="the median has no weights"):
        Options(combine="median", weight="variance")
