"""The oracle of leave-one-out rejection agrees with what is known of the rule."""

from math import sqrt

import numpy as np
import pytest
from oracle_rejection import grown, kept_of_images, kept_of_pixel, z_of_sample

LOW, HIGH, ABOVE = 4.5, 3.5, 1.5


@pytest.mark.parametrize("n", [2, 3, 4, 10, 60])
def test_one_sum_gives_the_same_z_as_leaving_each_sample_out(n):
    rng = np.random.default_rng(n)
    ratios, typical = rng.uniform(0.3, 3.0, n), 0.7
    x, g = rng.normal(0.0, 5.0, n), ratios**-2.0
    total = g.sum()
    z = (x - (g * x).sum() / total) * np.sqrt(g * total / (total - g)) / typical
    s = (typical * ratios).tolist()
    direct = [z_of_sample(x.tolist(), s, list(range(n)), i) for i in range(n)]
    np.testing.assert_allclose(z, direct, rtol=1e-11, atol=1e-11)


def test_z_of_pure_noise_has_a_scatter_of_one_with_unequal_errors():
    rng = np.random.default_rng(5)
    s = [1.0, 3.0, 3.0, 0.5]
    x = rng.normal(0.0, 1.0, (20000, 4)) * s
    z = [[z_of_sample(pixel, s, [0, 1, 2, 3], i) for i in range(4)] for pixel in x.tolist()]
    # The error of a scatter found from 20,000 samples is 0.005.
    np.testing.assert_allclose(np.std(z, axis=0), 1.0, atol=0.025)


@pytest.mark.parametrize("off", [4.0, 5.0, 12.0, 1000.0])
def test_of_two_that_differ_by_more_than_the_threshold_the_lower_stays(off):
    beyond = off > HIGH * sqrt(2.0)
    assert kept_of_pixel([off, 0.0], [1.0, 1.0], LOW, HIGH) == ([1] if beyond else [0, 1])
    assert kept_of_pixel([0.0, off], [1.0, 1.0], LOW, HIGH) == ([0] if beyond else [0, 1])


def test_two_hits_among_four_are_rejected_though_a_good_sample_has_the_largest_z():
    x, s = [-0.4, 0.6, 10.0, 10.6], [1.0] * 4
    z = [z_of_sample(x, s, [0, 1, 2, 3], i) for i in range(4)]
    assert max(range(4), key=lambda i: abs(z[i])) == 0
    assert kept_of_pixel(x, s, LOW, HIGH) == [0, 1]


def test_growing_takes_the_skirt_of_a_hit_and_nothing_else():
    x, s = np.zeros((3, 5, 7)), np.ones((3, 5, 7))
    x[1, 2, 2], x[1, 2, 3], x[1, 1, 4] = 50.0, 3.0, 3.0
    x[1, 4, 6] = 3.0  # as high, but alone
    kept = kept_of_images(x, s, LOW, HIGH)
    assert np.argwhere(~kept).tolist() == [[1, 2, 2]]
    once = grown(x, s, kept, ABOVE, 1)
    assert np.argwhere(~once).tolist() == [[1, 2, 2], [1, 2, 3]]
    twice = grown(x, s, kept, ABOVE, 2)
    assert np.argwhere(~twice).tolist() == [[1, 1, 4], [1, 2, 2], [1, 2, 3]]


def test_growing_never_takes_the_last_sample_of_a_pixel():
    rng = np.random.default_rng(3)
    x = rng.normal(0.0, 1.0, (3, 12, 12)) + 30.0 * (rng.random((3, 12, 12)) < 0.3)
    s = np.ones_like(x)
    kept = grown(x, s, kept_of_images(x, s, LOW, HIGH), ABOVE, 3)
    assert kept.any(axis=0).all()
