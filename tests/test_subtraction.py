"""Subtraction in C is the subtraction written in NumPy, wherever the result goes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import same_bits

from offsky import kernel as c_kernel
from offsky.kernel import twin_subtract
from offsky.kernel.contract import AverageRows, TargetRows
from offsky.options import Options
from offsky.subtraction import Coefficients, Subtraction, as_subtracted, subtract_rows
from offsky.values.average import ClippedMean

TOP_BIT = 1 << 31
ERRORS = ("err", "var_poisson", "var_rnoise", "var_flat")
IMAGES = ("sci", "dq", *ERRORS)
REALS = st.sampled_from(["<f4", ">f4", "<f8", ">f8"])
hows = st.builds(Subtraction, propagate=st.booleans(), blank=st.booleans())


def reals(rng: np.random.Generator, shape: Any, dtype: str, *, signed: bool = False) -> Any:
    """Return numbers of one type, above zero or of both signs, and a few odd ones."""
    values = rng.normal(1.0, 1e3, shape)
    values = (values if signed else abs(values)).astype(dtype)
    for value in (np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -1.0):
        values[rng.random(shape) < 0.03] = value
    return values


@st.composite
def rows_and_averages(draw: Any) -> tuple[TargetRows, ClippedMean]:
    """Rows of a target in any types and byte orders, and of an average."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 70) | st.sampled_from([255, 256, 257]))
    nints = draw(st.sampled_from([None, None, 1, 3]))
    target_shape = shape if nints is None else (nints, *shape)

    def image(**how: Any) -> Any:
        made = reals(rng, target_shape, draw(REALS), **how)
        if nints is None or draw(st.booleans()):
            return made
        # A part of the rows of a cube in memory.
        cube = np.zeros((nints, shape[0] + 3, shape[1]), made.dtype)
        cube[:, 2:-1] = made
        return cube[:, 2:-1]

    def perhaps(make: Any) -> Any:
        return make() if draw(st.booleans()) else None

    dq = rng.integers(0, 2**32, target_shape, dtype="u4")
    target = TargetRows(
        image(signed=True),
        dq.astype(draw(st.sampled_from(["<u4", ">u4"]))),
        draw(st.sampled_from([0, TOP_BIT])),
        *(perhaps(image) for _ in ERRORS),
    )
    real = draw(st.sampled_from(["f4", "f8"]))
    n_kept = rng.integers(0, draw(st.sampled_from([2, 9])), shape).astype("u2")
    average = ClippedMean(
        reals(rng, shape, real, signed=True),
        reals(rng, shape, real),
        perhaps(lambda: rng.integers(0, 2**32, shape, dtype="u4")),
        n_kept + draw(st.integers(0, 1)),
        np.zeros(2, np.int64),
        0,
        perhaps(lambda: reals(rng, shape, real)),
        perhaps(lambda: reals(rng, shape, real)),
    )
    return target, average


def copy_of(rows: TargetRows) -> TargetRows:
    return TargetRows(*(np.array(each) if isinstance(each, np.ndarray) else each for each in rows))


def by_numpy(target: TargetRows, average: ClippedMean, how: Subtraction) -> tuple[Any, Any]:
    """Subtract with the twin into new arrays."""
    out = copy_of(target)
    parts = AverageRows(**{name: getattr(average, name) for name in AverageRows._fields})
    return out, twin_subtract.subtract(target, parts, how.propagate, how.blank, out)


@settings(max_examples=500)
@given(rows=rows_and_averages(), how=hows, where=st.sampled_from(["new", "given", "in place"]))
def test_the_kernel_subtracts_what_numpy_subtracts(
    kernel: Any, rows: tuple[TargetRows, ClippedMean], how: Subtraction, where: str
) -> None:
    target, average = rows
    before = copy_of(target)
    expected, counts = by_numpy(target, average, how)
    out = {"new": None, "given": copy_of(target), "in place": target}[where]
    got = subtract_rows(target, average, how, out)
    for name in IMAGES:
        image = getattr(got.rows, name)
        assert same_bits(image, getattr(expected, name)), name
        if out is not None:
            assert image is getattr(out, name)
        elif image is not None and name in ("sci", "dq"):
            assert not np.shares_memory(image, getattr(target, name))
        if where != "in place":
            assert same_bits(getattr(target, name), getattr(before, name)), name
    assert got.rows.dq_flip == target.dq_flip
    assert (got.n_err_unknown, got.n_no_value) == counts


@given(rows=rows_and_averages(), how=hows)
def test_bytes_of_nan_are_those_of_numpy(
    kernel: Any, rows: tuple[TargetRows, ClippedMean], how: Subtraction
) -> None:
    target, average = rows
    expected, _ = by_numpy(target, average, how)
    got = subtract_rows(target, average, how).rows
    for name in IMAGES:
        if getattr(target, name) is not None:
            assert getattr(got, name).tobytes() == getattr(expected, name).tobytes(), name


@given(rows=rows_and_averages(), how=hows, factor=st.sampled_from([0.5, -1.25, 1 / 3, 1e-3]))
def test_an_average_times_a_factor_is_subtracted_in_double(
    engine: Any, rows: tuple[TargetRows, ClippedMean], how: Subtraction, factor: float
) -> None:
    target, average = rows
    times = as_subtracted(average, Coefficients(factor))
    assert times.sci.dtype == np.float64
    got = subtract_rows(target, times, how).rows
    covered = average.n_kept > 0
    with np.errstate(all="ignore"):
        level = factor * average.sci.astype(np.float64)
        expected = (target.sci - np.where(covered, level, 0)).astype(got.sci.dtype)
    if how.blank:
        expected = np.where(covered, expected, np.nan)
    np.testing.assert_array_equal(got.sci, expected)
    if how.propagate and target.err is not None and target.var_poisson is target.var_rnoise:
        # Without variances ERR alone has the whole.
        with np.errstate(all="ignore"):
            whole = (factor * average.err.astype(np.float64)) ** 2
            if average.var_poisson is not None and average.var_rnoise is not None:
                shares = average.var_poisson.astype(np.float64) + average.var_rnoise
                whole = np.where(np.isfinite(whole), whole, factor**2 * shares)
            old = target.err.astype(np.float64)
            known = covered & np.isfinite(whole) & np.isfinite(old)
            error = np.where(known, np.sqrt(old**2 + whole), old)
            error[..., ~covered] = np.nan if how.blank else error[..., ~covered]
            expected = error.astype(got.err.dtype)
        # The sum of scaled shares is rounded otherwise than the scaled sum.
        np.testing.assert_allclose(got.err, expected, rtol=1e-6)


def test_a_factor_of_one_is_no_copy() -> None:
    average = ClippedMean(np.ones((2, 2), "f4"), None, None, np.ones((2, 2), "u2"), np.zeros(1))
    assert as_subtracted(average, Coefficients()) is average
    assert Coefficients.given(Options(target_scale="fit")) == Coefficients()
    assert Coefficients.given(Options(target_scale=-0.5)) == Coefficients(-0.5)
    assert Coefficients.given(Options(target_offset=2)) == Coefficients(1.0, 2.0)


def test_the_errors_of_what_was_fitted_are_in_err_and_var_rnoise() -> None:
    b = np.array([[2.0, -3.0], [np.nan, 0.5]], np.float32)
    one = np.ones((2, 2), np.float32)
    n_kept = np.isfinite(b).astype("u2")
    average = ClippedMean(b, one, None, n_kept, np.zeros(1), 0, one / 4, 3 * one / 4)
    found = Coefficients(1.5, -0.25, 0.02, 0.1, -0.001, 1000)
    rows = as_subtracted(average, found)
    common = b**2.0 * 0.02**2 + 0.1**2 - 2 * b * 0.001
    np.testing.assert_allclose(rows.sci, 1.5 * b - 0.25)
    np.testing.assert_allclose(rows.var_poisson, 1.5**2 / 4 * one)
    np.testing.assert_allclose(rows.var_rnoise, 1.5**2 * 3 / 4 + common, rtol=1e-6)
    np.testing.assert_allclose(rows.err, np.sqrt(1.5**2 + common), rtol=1e-6)
    target = TargetRows(np.full((2, 2), 7.0, "f4"), np.zeros((2, 2), "u4"), 0, one, one, one)
    got = subtract_rows(target, rows, Subtraction(propagate=True)).rows
    # Where there is no average, no constant is subtracted either.
    assert got.sci[1, 0] == 7.0
    assert got.err is not None
    np.testing.assert_allclose(got.err[0, 0], np.sqrt(2 + 1.5**2 + common[0, 0]), rtol=1e-6)


def small(**changed: Any) -> tuple[TargetRows, ClippedMean]:
    """Return two rows of a target, and of an average with a hole."""
    n_kept = np.array([[1, 0, 1], [1, 1, 1]], np.uint16)
    average = ClippedMean(
        np.ones((2, 3), np.float32),
        np.full((2, 3), 3.0, np.float32),
        np.zeros((2, 3), np.uint32),
        n_kept,
        np.zeros(1, np.int64),
    )
    target = TargetRows(np.arange(6.0, dtype=">f4").reshape(2, 3), np.zeros((2, 3), ">u4"))
    return target._replace(**changed), average


@pytest.mark.parametrize("blank", [False, True])
def test_where_nothing_is_known_of_the_sky_the_target_stays_or_is_blanked(
    engine: Any, blank: bool
) -> None:
    target, average = small()
    got = subtract_rows(target, average, Subtraction(blank=blank)).rows
    nothing = np.nan if blank else 1.0
    np.testing.assert_array_equal(got.sci, [[-1.0, nothing, 1.0], [2.0, 3.0, 4.0]])
    assert got.dq[0, 1] == (1 if blank else 0)


def test_strided_rows_are_subtracted_from_too(engine: Any) -> None:
    wide = np.zeros((2, 6), ">f4")
    target, average = small(sci=wide[:, ::2])
    got = subtract_rows(target, average, out=target)
    np.testing.assert_array_equal(wide[:, ::2], -(average.n_kept > 0).astype(float))
    np.testing.assert_array_equal(wide[:, 1::2], 0.0)
    assert got.rows.sci is target.sci
    other_order = replace(average, sci=np.asfortranarray(average.sci))
    np.testing.assert_array_equal(
        subtract_rows(small()[0], other_order).rows.sci, subtract_rows(*small()).rows.sci
    )


def test_errors_add_in_quadrature(engine: Any) -> None:
    target, average = small(err=np.full((2, 3), 4.0, "f4"))
    got = subtract_rows(target, average, Subtraction(propagate=True))
    np.testing.assert_array_equal(got.rows.err, [[5.0, 4.0, 5.0], [5.0] * 3])
    assert target.err[0, 0] == 4.0
    assert got.n_err_unknown == 0


@pytest.mark.parametrize("propagate", [False, True])
def test_pixels_of_unknown_error_are_counted_once_for_all_integrations(
    engine: Any, propagate: bool
) -> None:
    sci = np.zeros((4, 2, 3), "f4")
    target, average = small(sci=sci, dq=np.zeros((4, 2, 3), "u4"), err=np.ones_like(sci))
    average.err[:, 1] = np.nan  # at one of these nothing is known of the sky at all
    got = subtract_rows(target, average, Subtraction(propagate=propagate))
    assert got.n_err_unknown == (1 if propagate else 0)


def test_pixels_without_a_value_anywhere_are_counted(engine: Any) -> None:
    sci = np.zeros((2, 2, 3), "f4")
    target, average = small(sci=sci, dq=np.zeros((2, 2, 3), "u4"))
    sci[:, 1, 1] = np.nan  # there is an average there
    assert subtract_rows(target, average).n_no_value == 0
    sci[0, 0, 1] = np.inf
    assert subtract_rows(target, average).n_no_value == 0
    sci[1, 0, 1] = np.nan
    assert subtract_rows(target, average).n_no_value == 1


def test_no_rows_are_subtracted_from_without_complaint(engine: Any) -> None:
    target = TargetRows(np.zeros((3, 0, 5), ">f4"), np.zeros((3, 0, 5), "u4"))
    average = ClippedMean(
        np.zeros((0, 5), "f4"), None, None, np.zeros((0, 5), "u2"), np.zeros(1, np.int64)
    )
    got = subtract_rows(target, average)
    assert got.rows.sci.shape == (3, 0, 5)
    assert (got.n_err_unknown, got.n_no_value) == (0, 0)


def test_without_its_errors_an_average_has_none_to_propagate(engine: Any) -> None:
    target, average = small()
    with pytest.raises(TypeError, match="err"):
        subtract_rows(target, replace(average, err=None), Subtraction(propagate=True))


READ_ONLY = np.zeros(5, "f4")
READ_ONLY.setflags(write=False)


@pytest.mark.parametrize(
    ("part", "changed", "error"),
    [
        ("target", {"sci": np.zeros(5, "i4")}, TypeError),
        ("target", {"sci": None}, TypeError),
        ("target", {"sci": np.zeros(12, "f4")}, ValueError),
        ("target", {"sci": np.zeros((2, 5, 2), "f4")[..., 0]}, ValueError),
        ("target", {"dq": np.zeros(4, "u4")}, ValueError),
        ("target", {"dq": np.zeros(10, "u4")}, ValueError),
        ("target", {"dq": np.zeros(5, "u2")}, TypeError),
        ("target", {"err": np.zeros(4, "f4")}, ValueError),
        ("target", {"var_flat": np.zeros(5, "u4")}, TypeError),
        ("average", {"sci": np.zeros(5, "u4")}, TypeError),
        ("average", {"sci": np.zeros(5, ">f4")}, TypeError),
        ("average", {"sci": np.zeros(4, "f4")}, ValueError),
        ("average", {"sci": None}, TypeError),
        ("average", {"err": None}, TypeError),
        ("average", {"err": np.zeros(6, "f4")}, ValueError),
        ("average", {"var_poisson": np.zeros(6, "f4")}, ValueError),
        ("average", {"n_kept": np.zeros(5, "u4")}, ValueError),
        ("average", {"n_kept": np.zeros(4, "u2")}, ValueError),
        ("average", {"n_kept": None}, TypeError),
        ("average", {"dq": np.zeros(6, "u4")}, ValueError),
        ("average", {"dq": np.zeros(5, ">u4")}, TypeError),
        ("out", {"sci": READ_ONLY}, (ValueError, BufferError)),
        ("out", {"sci": np.zeros(5, "f8")}, TypeError),
        ("out", {"sci": np.zeros(10, "f4")}, ValueError),
        ("out", {"dq": np.zeros(5, ">u4")}, TypeError),
        ("out", {"err": None}, TypeError),
        ("out", {"err": np.zeros(5, ">f4")}, TypeError),
    ],
)
def test_the_kernel_refuses_rows_it_would_overrun(
    kernel: Any, part: str, changed: Any, error: Any
) -> None:
    def rows() -> TargetRows:
        return TargetRows(np.zeros(5, "f4"), np.zeros(5, "u4"), 0, np.zeros(5, "f4"))

    good: dict[str, Any] = {
        "target": rows(),
        "average": AverageRows(np.ones(5, "f4"), np.ones(5, "u2"), None, np.ones(5, "f4")),
        "propagate": True,
        "blank": False,
        "out": rows(),
    }
    assert c_kernel.subtract(*good.values()) == (0, 0)
    assert good["out"].sci.tolist() == [-1.0] * 5
    with pytest.raises(error):
        c_kernel.subtract(*{**good, part: good[part]._replace(**changed)}.values())
