"""Subtraction in the target's own memory, in C, is the subtraction written in NumPy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offsky import kernel as c_kernel
from offsky import subtraction
from offsky.subtraction import Subtraction, TargetRows, subtract_rows
from offsky.values.average import ClippedMean

TOP_BIT = 1 << 31


@st.composite
def rows_and_averages(draw: Any) -> tuple[TargetRows, ClippedMean]:
    """Rows of a target in any type and byte order, and of an average."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 70))
    sci = rng.normal(1.0, 1e3, shape).astype(draw(st.sampled_from(["<f4", ">f4", "<f8", ">f8"])))
    level = rng.normal(1.0, 1e3, shape).astype("f4")
    for array in (sci, level):
        for value in (np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38):
            array[rng.random(shape) < 0.03] = value
    dq = rng.integers(0, 2**32, shape, dtype="u4").astype(draw(st.sampled_from(["<u4", ">u4"])))
    n_kept = rng.integers(0, 3, shape).astype("u2")
    flags = rng.integers(0, 2**32, shape, dtype="u4") if draw(st.booleans()) else None
    target = TargetRows(sci, dq, draw(st.sampled_from([0, TOP_BIT])))
    return target, ClippedMean(level, None, flags, n_kept, np.zeros(2, np.int64))


@given(rows=rows_and_averages(), scale=st.sampled_from([1.0, 0.5, -1.25, 1 / 3]))
def test_the_kernel_subtracts_what_numpy_subtracts(
    kernel: Any, rows: tuple[TargetRows, ClippedMean], scale: float
) -> None:
    target, average = rows
    how = Subtraction(scale=scale)
    before = target.sci.tobytes(), target.dq.tobytes()
    expected = subtract_rows(target, average, how)
    assert (target.sci.tobytes(), target.dq.tobytes()) == before
    got = subtract_rows(target, average, how, in_place=True)
    assert got.sci is target.sci
    assert (got.sci.dtype, got.dq.dtype) == (expected.sci.dtype, expected.dq.dtype)
    np.testing.assert_array_equal(got.sci, expected.sci)
    np.testing.assert_array_equal(np.signbit(got.sci), np.signbit(expected.sci))
    assert got.dq.tobytes() == expected.dq.tobytes()


@pytest.mark.parametrize("blank", [False, True])
def test_what_the_kernel_does_not_do_is_done_in_numpy(
    kernel: Any, monkeypatch: pytest.MonkeyPatch, blank: bool
) -> None:
    sci = np.arange(6.0, dtype=">f4").reshape(2, 3)
    flags = np.zeros((2, 3), np.uint32)
    n_kept = np.array([[1, 0, 1], [1, 1, 1]], np.uint16)
    average = ClippedMean(np.ones((2, 3), np.float32), None, flags, n_kept, np.zeros(1, np.int64))
    if not blank:
        monkeypatch.setattr(subtraction.kernel, "subtract", None)
    target = TargetRows(sci, flags.astype(">u4"))
    got = subtract_rows(target, average, Subtraction(blank=blank), in_place=True)
    nothing = np.nan if blank else 1.0
    np.testing.assert_array_equal(got.sci, [[-1.0, nothing, 1.0], [2.0, 3.0, 4.0]])
    assert got.dq[0, 1] == (1 if blank else 0)
    # Strided rows, as those of a part of an image are.
    wide = np.zeros((2, 6), ">f4")
    part = subtract_rows(
        TargetRows(wide[:, ::2], flags.astype(">u4")), average, Subtraction(), in_place=True
    )
    np.testing.assert_array_equal(part.sci, -(n_kept > 0).astype(float))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"sci": np.zeros(5, "i4")}, TypeError),
        ({"dq": np.zeros(4, "u4")}, ValueError),
        ({"dq": np.zeros(5, "u2")}, TypeError),
        ({"level": np.zeros(5, "f8")}, TypeError),
        ({"level": np.zeros(5, ">f4")}, TypeError),
        ({"level": np.zeros(4, "f4")}, ValueError),
        ({"n_kept": np.zeros(5, "u4")}, ValueError),
        ({"n_kept": None}, TypeError),
        ({"flags": np.zeros(6, "u4")}, ValueError),
        ({"sci": np.broadcast_to(np.float32(0), (5,))}, (ValueError, BufferError)),
    ],
)
def test_the_kernel_refuses_rows_it_would_overrun(kernel: Any, changed: Any, error: Any) -> None:
    good: dict[str, Any] = {
        "sci": np.zeros(5, "f4"),
        "dq": np.zeros(5, "u4"),
        "flip": 0,
        "level": np.ones(5, "f4"),
        "n_kept": np.ones(5, "u2"),
        "flags": None,
        "scale": 1.0,
    }
    c_kernel.subtract(*good.values())
    assert good["sci"].tolist() == [-1.0] * 5
    with pytest.raises(error):
        c_kernel.subtract(*{**good, **changed}.values())
