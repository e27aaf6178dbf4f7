"""Every way of rejecting and averaging: kernel, twin and the definitions agree."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import same_bits
from oracle_options import (
    Average,
    Depth,
    average_by_options,
    kept_of_pixel,
    without_ties,
)
from strategies import FLOATS, KINDS, samples_of_kind

from offsky import kernel as c_kernel
from offsky.combine.planes import average_planes
from offsky.combine.rule import median_factors, rule_of
from offsky.combine.stack import clipped_mean
from offsky.kernel import twin_average
from offsky.kernel.contract import Averages, Planes, Rule
from offsky.options import Options
from offsky.values.average import ClippedMean
from offsky.values.exposure import Rows

# Samples whose sums and differences are far from the ends of the range of numbers, where
# rounding, and with it what a tie is, has no meaning.
TAME = ("noise", "noise and outliers", "ties", "constants", "gaps", "infinities",
        "nearly constant", "all NaN")  # fmt: skip

# What a failing example holds is large.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")

thresholds = st.sampled_from([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 5.0]) | st.floats(0.4, 6.0)
rejections = st.sampled_from(["sigma", "error", "mad", "minmax", "none"])


@st.composite
def options_of_any_kind(draw: Any) -> Options:
    """Draw options; those that decide which samples are kept, and what is made of them."""
    combine = draw(st.sampled_from(["mean", "mean", "median"]))
    weights = ["equal"] if combine == "median" else ["equal", "integrations"]
    return Options(
        sigma=draw(thresholds),
        maxiters=draw(st.sampled_from([None, None, None, 0, 1, 2, 5])),
        reject=draw(rejections),
        sigma_lower=draw(st.none() | thresholds | st.just(float("inf"))),
        sigma_upper=draw(st.none() | thresholds | st.just(float("inf"))),
        n_extremes=draw(st.integers(0, 4)),
        min_keep=draw(st.sampled_from([0, 0, 1, 2, 3, 8, 100])),
        center=draw(st.sampled_from(["median", "median", "mean"])),
        combine=combine,
        weight=draw(st.sampled_from(weights)),
        errors="propagate",
        dq=draw(st.sampled_from(["or", "kept", "all"])),
        bad_bits=draw(st.sampled_from([0, 1, 3, 2**31])),
        bad_fraction=draw(st.sampled_from([None, 0.0, 0.3, 0.5, 1.0])),
    )


@st.composite
def inputs(
    draw: Any, kinds: tuple[str, ...] = KINDS, max_n: int = 60
) -> tuple[Planes, np.ndarray]:
    """Draw planes of everything, some of them not there, and weights."""
    n = draw(st.integers(1, max_n) | st.integers(1, min(8, max_n)))
    n_pixels = draw(st.integers(1, 30) | st.sampled_from([735, 736, 737]))
    dtype = draw(st.sampled_from(FLOATS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sci = samples_of_kind(draw(st.sampled_from(kinds)), n, n_pixels, rng.integers(2**32), dtype)

    def reals() -> np.ndarray:
        values = rng.uniform(0.0, 2.0, sci.shape)
        values[rng.random(sci.shape) < rng.choice([0.0, 0.1, 0.6, 1.0])] = np.nan
        values[rng.random(sci.shape) < 0.02] = np.inf
        values[rng.random(sci.shape) < 0.02] = 0.0
        return values.astype(draw(st.sampled_from(FLOATS)))

    dq = np.where(rng.random(sci.shape) < 0.3, rng.integers(0, 8, sci.shape), 0)
    dq = np.where(rng.random(sci.shape) < 0.1, 2**31, dq)
    covers = rng.random(sci.shape) < 0.8
    skip = rng.random(sci.shape) < rng.choice([0.1, 0.6])
    planes = Planes(
        list(sci),
        list(reals()),
        list(dq.astype(draw(st.sampled_from(["<u4", ">u4"])))),
        list(reals()),
        list(reals()),
        list(covers),
        list(skip),
    )
    return planes, rng.uniform(0.1, 1.0, n)


def with_engine(
    engine: Any,
    planes: Planes,
    weights: np.ndarray | None,
    options: Options,
    wide: bool = False,
    moved: bool = False,
    n_chunks: int = 1,
    depths: np.ndarray | None = None,
) -> tuple[Averages, int, int]:
    """Call kernel or twin; `moved` brings exposures to other levels."""
    n, n_pixels = len(planes.sci), len(planes.sci[0])
    real = "f8" if wide else "f4"

    def plane(there: Any, dtype: str = real) -> Any:
        return None if there is None else np.full(n_pixels, 7, dtype)

    out = Averages(
        plane(planes.sci), plane(planes.err), plane(planes.dq, "u4"), plane(planes.sci, "u2"),
        np.zeros(n, np.int64), plane(planes.var_poisson), plane(planes.var_rnoise),
        np.zeros(n, np.int64),
    )  # fmt: skip
    weighted = weights if options.weight != "equal" else None
    factors = median_factors(n) if options.combine == "median" else None
    offsets = np.resize([0.0, 0.1, -3.7, 1e-60], n) if moved else None
    scales = np.resize([1.0, 1.1, -0.3, 0.0, 1 / 3], n) if moved else None
    edges = [n_pixels * i // n_chunks for i in range(n_chunks + 1)]
    counts = np.zeros(2, int)
    for first, last in pairwise(edges):
        counts += engine(
            planes,
            None,
            offsets,
            scales,
            weighted,
            depths,
            factors,
            rule_of(options),
            first,
            last,
            out,
        )
    return out, int(counts[0]), int(counts[1])


def depths_of(n: int, spread: float) -> list[Depth]:
    """Return exposures of unequal depth, whose ERR is wrong by other factors."""
    rng = np.random.default_rng(n)
    return [Depth(float(np.exp(a)), float(np.exp(b))) for a, b in rng.normal(0.0, spread, (n, 2))]


def numbers_of(depths: list[Depth]) -> np.ndarray:
    """Return depths as the kernel takes them."""
    return np.array(
        [[1 / d.typical for d in depths], [1 / (d.typical * d.ratio) ** 2 for d in depths]]
    )


@pytest.fixture(params=["kernel", "twin"])
def average(request: pytest.FixtureRequest, kernel: Any) -> Any:
    """Kernel and twin in turn, for all the options."""
    return c_kernel.average if request.param == "kernel" else twin_average.average


@settings(max_examples=400)
@given(
    drawn=inputs(),
    options=options_of_any_kind() | st.builds(Options, sigma=thresholds),
    wide=st.booleans(),
    spread=st.sampled_from([0.0, 0.1, 1.0, 30.0]),
    missing=st.tuples(*[st.sampled_from(["nothing", "nothing", "all", "some"])] * 6),
    moved=st.booleans(),
    n_chunks=st.integers(1, 3),
)
def test_kernel_and_twin_agree_bit_for_bit(
    kernel: Any,
    drawn: Any,
    options: Options,
    wide: bool,
    spread: float,
    missing: tuple[str, ...],
    moved: bool,
    n_chunks: int,
) -> None:
    planes, weights = drawn
    depths = numbers_of(depths_of(len(weights), spread)) if spread else None
    how: dict[str, Any] = {"wide": wide, "moved": moved, "depths": depths}
    # Any kind but SCI may be missing, as a whole or in single exposures.
    for kind, what in zip(planes._fields[1:], missing, strict=True):
        if what == "all":
            planes = planes._replace(**{kind: None})
        if what == "some":
            some = [plane if i % 2 else None for i, plane in enumerate(getattr(planes, kind))]
            planes = planes._replace(**{kind: some})
    one, *counts = with_engine(
        c_kernel.average, planes, weights, options, n_chunks=n_chunks, **how
    )
    other, *expected = with_engine(twin_average.average, planes, weights, options, **how)
    for name in one._fields:
        assert same_bits(getattr(one, name), getattr(other, name)), name
    assert counts == expected


def has_a_definition(options: Options) -> bool:
    """Leave out no bound times no deviation, which astropy takes to reject whatever it is."""
    thresholds = (options.sigma_lower, options.sigma_upper)
    return options.reject != "mad" or float("inf") not in thresholds


@settings(max_examples=150)
@given(
    drawn=inputs(TAME, max_n=24),
    options=options_of_any_kind(),
    spread=st.sampled_from([0.0, 0.1, 0.7]),
)
def test_every_option_does_what_its_definition_says(
    average: Any, drawn: Any, options: Options, spread: float
) -> None:
    assume(has_a_definition(options))
    planes, weights = drawn
    n = len(weights)
    depths = depths_of(n, spread)
    first = Planes(*([plane[:30] for plane in kind] for kind in planes))
    first = first._replace(sci=list(_clear_samples(first, options, depths)))
    got, _, n_samples = with_engine(average, first, weights, options, depths=numbers_of(depths))
    sci, err, dq, poisson, rnoise, covers, skip = (np.array(kind) for kind in first)
    np.testing.assert_array_equal(got.n_masked, (np.isfinite(sci) & skip).sum(axis=1))
    assert n_samples == (np.isfinite(sci) & ~skip).sum()
    sci[skip] = np.nan
    expected = average_by_options(
        sci, err, dq, (poisson, rnoise), covers, weights, options, median_factors(n), depths
    )
    assert_expected(got, expected)


def _clear_samples(planes: Planes, options: Options, depths: list[Depth]) -> np.ndarray:
    """Return samples without the pixels in which rounding decides what is kept."""
    sci, err, dq, skip = (np.array(kind) for kind in (planes[0], planes[1], planes[2], planes[6]))
    left_out = skip | ((dq & options.bad_bits) != 0) & (options.dq != "or")
    clear = without_ties(np.where(left_out, np.nan, sci), err, options, depths)
    return np.where(left_out | np.isfinite(clear), sci, clear)


def assert_expected(got: Averages, expected: Average) -> None:
    np.testing.assert_array_equal(got.n_kept, expected.kept.sum(axis=0))
    np.testing.assert_array_equal(got.n_rejected, expected.n_rejected)
    np.testing.assert_array_equal(got.dq, expected.dq)
    # float32 results; a sum of up to 24 samples may cancel to its rounding.
    np.testing.assert_allclose(got.sci, expected.sci.astype("f4"), rtol=2e-7, atol=1e-12)
    for name in ("err", "var_poisson", "var_rnoise"):
        np.testing.assert_allclose(
            getattr(got, name), getattr(expected, name), rtol=3e-7, atol=1e-40, err_msg=name
        )


@settings(max_examples=150)
@given(drawn=inputs(TAME, max_n=31), options=options_of_any_kind())
def test_each_sample_is_kept_exactly_where_the_definition_keeps_it(
    average: Any, drawn: Any, options: Options
) -> None:
    # One bit an exposure: the OR over kept samples tells which these are.
    assume(has_a_definition(options))
    planes, weights = drawn
    n = len(weights)
    sci = np.array([plane[:20] for plane in planes.sci])
    err = np.array([plane[:20] for plane in planes.err])
    dq = np.repeat(2 ** np.arange(n, dtype=np.uint32)[:, None], sci.shape[1], axis=1)
    shown = options.changed(dq="kept", bad_bits=0, bad_fraction=None)
    sci = without_ties(sci, err, shown)
    got, *_ = with_engine(average, Planes(list(sci), list(err), list(dq)), weights, shown)
    for p in range(sci.shape[1]):
        kept = kept_of_pixel(sci[:, p].astype(float), err[:, p].astype(float), shown)
        if any(kept):
            bits = [bool(int(got.dq[p]) >> i & 1) for i in range(n)]
            assert bits == kept


@settings(max_examples=150)
@given(drawn=inputs(), sigma=thresholds, maxiters=st.sampled_from([None, 0, 1, 3]))
def test_the_default_options_are_the_plain_clip_bit_for_bit(
    kernel: Any, average: Any, drawn: Any, sigma: float, maxiters: int | None
) -> None:
    # Variances are for the general way; without them the kernel takes a shorter one.
    planes, _ = drawn
    options = Options(sigma=sigma, maxiters=maxiters)
    got, *counts = with_engine(average, planes, None, options)
    plain, *expected = with_engine(
        kernel, planes._replace(var_poisson=None, var_rnoise=None), None, options
    )
    for name in ("sci", "err", "dq", "n_kept", "n_rejected", "n_masked"):
        assert same_bits(getattr(got, name), getattr(plain, name)), name
    assert counts == expected


@pytest.mark.parametrize("reject", ["sigma", "error", "mad", "minmax", "none"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 60, 100])
def test_every_number_of_exposures_follows_the_definitions(
    average: Any, n: int, reject: Any
) -> None:
    rng = np.random.default_rng(n)
    sci = rng.normal(10.0, 1.0, (n, 40))
    sci[rng.random(sci.shape) < 0.1] += 30.0
    sci[rng.random(sci.shape) < 0.05] = np.nan
    err = rng.uniform(0.8, 1.2, sci.shape)
    planes = Planes(list(sci), list(err), list(np.zeros(sci.shape, "u4")), list(err), list(err))
    for options in (
        Options(reject=reject, min_keep=1, n_extremes=2),
        Options(reject=reject, sigma=1.5, min_keep=n // 2, center="mean"),
    ):
        got, *_ = with_engine(average, planes, None, options)
        covers = np.ones(sci.shape, bool)
        assert_expected(
            got,
            average_by_options(
                sci, err, np.zeros(sci.shape, int), (err, err), covers, [1.0] * n, options, []
            ),
        )


def one_pixel(engine: Any, sci: Any, err: Any = None, **options: Any) -> ClippedMean:
    """Average one pixel's samples."""
    column = np.array(sci, dtype="f4")[:, None]
    errors = None if err is None else np.array(err, dtype="f4")[:, None]
    return clipped_mean(column, errors, options=Options(**options))


def test_by_error_the_outlier_of_three_is_found(engine: Any) -> None:
    got = one_pixel(engine, [1.0, 11.0, 1.5], [1.0, 1.0, 1.0], reject="error")
    assert got.n_rejected.tolist() == [0, 1, 0]
    assert one_pixel(engine, [1.0, 11.0, 1.5]).n_rejected.tolist() == [0, 0, 0]


def test_by_error_an_inflated_err_of_the_outlier_does_not_hide_it(engine: Any) -> None:
    got = one_pixel(engine, [1.0, 11.0, 1.5], [1.0, 50.0, 1.0], reject="error")
    assert got.n_rejected.tolist() == [0, 1, 0]


@pytest.mark.parametrize(("min_keep", "kept"), [(0, [0]), (1, [0]), (2, [0, 1])])
def test_of_two_that_disagree_the_higher_is_dropped_unless_both_are_to_stay(
    engine: Any, min_keep: int, kept: list[int]
) -> None:
    for order in ([0, 1], [1, 0]):
        sci = np.array([0.1, 10.3])[order]
        got = one_pixel(engine, sci, [1.0, 1.0], reject="error", min_keep=min_keep)
        rejected = [int(order[i] not in kept) for i in range(2)]
        assert got.n_rejected.tolist() == rejected


@pytest.mark.parametrize("err", [None, [np.nan] * 3, [np.inf, 0.0, -1.0]])
def test_by_error_nothing_is_rejected_where_no_err_is_known(engine: Any, err: Any) -> None:
    assert one_pixel(engine, [0.0, 0.0, 99.0], err, reject="error").n_kept.tolist() == [3]


def test_without_deviation_mad_keeps_what_equals_the_median(engine: Any) -> None:
    got = one_pixel(engine, [5.0, 5.0, 5.0, 5.1, 9.0], reject="mad")
    assert got.n_kept.tolist() == [3]
    held = one_pixel(engine, [5.0, 5.0, 5.0, 5.1, 9.0], reject="mad", min_keep=4)
    assert held.n_rejected.tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("n", "n_extremes", "n_kept"), [(1, 1, 1), (2, 1, 2), (3, 1, 1), (4, 1, 2), (5, 2, 1),
                                    (6, 9, 2), (7, 0, 7)],
)  # fmt: skip
def test_of_few_samples_minmax_leaves_at_least_one(
    engine: Any, n: int, n_extremes: int, n_kept: int
) -> None:
    got = one_pixel(engine, np.arange(n), reject="minmax", n_extremes=n_extremes)
    assert got.n_kept.tolist() == [n_kept]
    assert got.sci.tolist() == [(n - 1) / 2]


def test_minmax_drops_one_of_equal_extremes(engine: Any) -> None:
    got = one_pixel(engine, [1.0, 1.0, 2.0, 3.0, 3.0, 3.0], reject="minmax")
    assert got.n_rejected.tolist() == [1, 0, 0, 0, 0, 1]
    assert one_pixel(engine, [4.0] * 5, reject="minmax").n_rejected.tolist() == [1, 0, 0, 0, 1]


def test_no_upper_bound_keeps_whatever_is_high(engine: Any) -> None:
    sci = [0.0, 0.1, 0.2, 0.1, -50.0, 50.0]
    got = one_pixel(engine, sci, reject="mad", sigma_upper=float("inf"))
    assert got.n_rejected.tolist() == [0, 0, 0, 0, 1, 0]


def test_weights_are_relative_and_give_the_error_of_the_weighted_mean(engine: Any) -> None:
    sci, err = np.array([[1.0], [4.0]]), np.array([[1.0], [2.0]])
    options = Options(weight="variance", errors="propagate")
    for scale in (1.0, 1e-30, 1e30):
        got = clipped_mean(sci, err, options=options, weights=scale * np.array([1.0, 0.25]),
                           var_poisson=err**2, var_rnoise=np.array([[np.nan], [4.0]]))  # fmt: skip
        np.testing.assert_allclose(got.sci, 1.6, rtol=1e-7)
        # sum w^2 err^2 / (sum w)^2 = 1.25 / 1.5625 = 0.8; the unknown takes the known 4.
        np.testing.assert_allclose(got.err, np.sqrt(0.8), rtol=1e-7)
        np.testing.assert_allclose(got.var_poisson, 0.8, rtol=1e-7)
        np.testing.assert_allclose(got.var_rnoise, 4 * 1.0625 / 1.5625, rtol=1e-7)
    with pytest.raises(ValueError, match="above zero"):
        clipped_mean(sci, err, options=options, weights=[1.0, 0.0])
    with pytest.raises(ValueError, match="for 2 exposures"):
        clipped_mean(sci, err, options=options)


def test_variances_of_the_mean_are_their_sum_over_n_squared(engine: Any) -> None:
    sci = np.array([[1.0], [2.0], [3.0], [400.0]])
    var = np.array([[1.0], [2.0], [np.nan], [7.0]])
    err = np.ones_like(sci)
    options = Options(reject="error", errors="propagate")
    got = clipped_mean(sci, err, options=options, var_poisson=var, var_rnoise=2 * var)
    # The kept sample without a variance takes the mean of the others.
    np.testing.assert_allclose(got.var_poisson, 4.5 / 9, rtol=1e-7)
    np.testing.assert_allclose(got.var_rnoise, 9.0 / 9, rtol=1e-7)
    plain = clipped_mean(sci, err, options=options, var_poisson=var)
    assert plain.var_rnoise is None
    assert clipped_mean(sci, err, var_poisson=var).var_poisson is None


FLAGS = np.array([[4, 1, 1, 0, 4], [4, 1, 0, 0, 6], [0, 2, 0, 0, 4], [8, 1, 4, 1, 4]], "u4")
SCI = np.array([[1.0] * 5] * 3 + [[np.nan] * 5])


@pytest.mark.parametrize(
    ("options", "expected", "n_kept"),
    [
        ({}, [12, 3, 5, 1, 6], [3, 3, 3, 3, 3]),
        ({"dq": "kept"}, [4, 2, 0, 0, 6], [3, 1, 2, 3, 3]),
        ({"dq": "kept", "bad_bits": 3}, [4, 3, 0, 0, 4], [3, 0, 2, 3, 2]),
        ({"dq": "kept", "bad_fraction": 0.25}, [4, 3, 1, 0, 6], [3, 1, 2, 3, 3]),
        ({"dq": "all"}, [0, 0, 0, 0, 4], [3, 1, 2, 3, 3]),
        ({"dq": "all", "bad_fraction": 0.25}, [0, 1, 1, 0, 4], [3, 1, 2, 3, 3]),
    ],
)
def test_flags_of_the_average(
    engine: Any, options: Any, expected: list[int], n_kept: list[int]
) -> None:
    # The last exposure reaches the first two pixels only: elsewhere its flags do not count.
    covers = [None, None, None, np.array([True, True, False, False, False])]
    flags = [*FLAGS[:3], np.where(covers[3], FLAGS[3], 0).astype("u4")]
    if not options:
        flags, covers = list(FLAGS), [None] * 4
    got = average_planes(list(SCI), None, flags, options=Options(**options), covers=covers)
    assert got.dq is not None
    assert got.n_kept.tolist() == n_kept
    assert got.dq.tolist() == expected


def test_the_kernel_refuses_what_it_would_overrun_or_not_know(kernel: Any) -> None:
    good: dict[str, Any] = {
        "planes": Planes(
            *([np.zeros(8, t)] * 2 for t in ("f4", "f4", "u4", "f4", "f8", "?", "?"))
        ),
        "dq_flip": None, "offsets": np.zeros(2), "scales": np.ones(2),
        "weights": np.ones(2), "depths": np.ones((2, 2)), "median_factors": np.ones(3),
        "rule": rule_of(Options()), "first": 0, "last": 8,
        "out": Averages(np.empty(8, "f4"), np.empty(8, "f4"), np.empty(8, "u4"),
                        np.empty(8, "u2"), np.zeros(2, np.int64), np.empty(8, "f4"),
                        np.empty(8, "f4"), np.zeros(2, np.int64)),
    }  # fmt: skip
    c_kernel.average(*good.values())

    def planes(**changed: Any) -> Any:
        return {"planes": good["planes"]._replace(**changed)}

    def out(**changed: Any) -> Any:
        return {"out": good["out"]._replace(**changed)}

    for changed in (
        planes(var_poisson=[np.zeros(8)]), planes(var_rnoise=[np.zeros(7)] * 2),
        planes(covers=[np.zeros(8, "u4")] * 2), planes(covers=[np.zeros(9, "?")] * 2),
        planes(sci=[np.zeros(8), None]), planes(dq=[np.zeros(8)] * 2),
        {"weights": np.ones(3)}, {"weights": np.ones(2, "f4")}, {"depths": np.ones(2)},
        {"median_factors": np.ones(2)},
        {"median_factors": np.ones(2)},
        {"rule": rule_of(Options())._replace(method=5)}, {"rule": Rule(1, 3.0, 3.0, -1)[:4]},
        {"rule": rule_of(Options())._replace(flags=-1)}, {"last": 9}, {"first": -1},
        out(var_poisson=np.empty(8)), out(var_rnoise=np.empty(7, "f4")), out(n_kept=3),
        out(n_rejected=np.zeros(1, np.int64)),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError, BufferError)):
            c_kernel.average(*{**good, **changed}.values())


def test_rows_keep_their_variances_only_where_all_that_reach_them_have_them(engine: Any) -> None:
    from averages import combine_rows

    from offsky.combine.images import absent_image, combine_images, make_image

    shape, options = (2, 3), Options(errors="propagate")
    ones = np.ones(shape, "f4")
    full = Rows(ones, ones, None, var_poisson=ones, var_rnoise=ones)
    images = [make_image(full, options), make_image(full, options), absent_image(shape)]
    got = combine_images(images, options)
    assert got.var_poisson is not None
    np.testing.assert_array_equal(got.var_poisson, 0.5)
    without = combine_rows([full, Rows(ones, ones, None, var_poisson=ones)], options)
    assert without.var_poisson is not None
    assert without.var_rnoise is None


def test_variances_of_a_cube_are_those_of_the_mean_of_kept_integrations(engine: Any) -> None:
    from averages import combine_rows

    sci = np.zeros((5, 1, 2), "f4")
    sci[3, 0, 1] = 100.0
    sci[4, 0, 0] = np.nan
    var = np.arange(10.0, 20.0).reshape(5, 1, 2)
    err = np.ones_like(sci)
    cube = Rows(sci, err, None, var_poisson=var, var_rnoise=var.astype("f4"))
    image = Rows(err[0], err[0], None, var_poisson=2 * err[0], var_rnoise=err[0])
    got = combine_rows([cube, image], Options(reject="error", errors="propagate", min_keep=2))
    v = np.array([(10 + 12 + 14 + 16) / 16, (11 + 13 + 15 + 19) / 16])
    assert got.n_rejected.tolist() == [1, 0]
    np.testing.assert_allclose(got.var_poisson, [(v + 2) / 4], rtol=1e-7)
    np.testing.assert_allclose(got.var_rnoise, [(v + 1) / 4], rtol=1e-7)


def test_along_integrations_flags_are_combined_and_bad_ones_left_out(engine: Any) -> None:
    from averages import combine_rows

    sci = np.ones((4, 1, 3), "f4")
    sci[1] = 50.0
    dq = np.zeros((4, 1, 3), "u4")
    dq[1, 0, :2] = 1
    dq[:, 0, 1] |= 4
    dq[:, 0, 2] = 1
    cube = Rows(sci, np.ones_like(sci), dq)
    kept = combine_rows([cube], Options(dq="kept", bad_fraction=0.1))
    assert kept.sci.tolist()[0][:2] == [1.0, 1.0]
    # A fraction of bad exposures, not of integrations; bad in all of them is bad.
    assert kept.dq is not None
    assert kept.dq.tolist() == [[0, 4, 1]]
    assert kept.n_kept.tolist() == [[1, 1, 0]]
    every = combine_rows([cube], Options(dq="all"))
    assert every.dq is not None
    assert every.dq.tolist() == [[0, 4, 1]]


def test_flags_of_all_exposures_do_not_ask_those_that_do_not_reach_a_pixel(engine: Any) -> None:
    from offsky.combine.images import combine_images
    from offsky.engine.framing import image_of
    from offsky.values.exposure import Scratch
    from offsky.values.in_memory import ArrayExposure
    from offsky.values.window import Window

    frame, left, options = Window(1, 1, 4, 2), Window(1, 1, 2, 2), Options(dq="all", bad_bits=0)
    ones = np.ones((2, 4), "f4")
    whole = ArrayExposure("whole", ones, None, np.full((2, 4), 5, "u4"))
    part = ArrayExposure("part", ones[:, :2], None, np.full((2, 2), 4, "u4"))
    images = [
        image_of(exposure, window, frame, (0, 2), Scratch(), options, None)
        for exposure, window in ((whole, frame), (part, left))
    ]
    got = combine_images(images, options)
    assert got.dq is not None
    np.testing.assert_array_equal(got.dq, [[4, 4, 5, 5]] * 2)
