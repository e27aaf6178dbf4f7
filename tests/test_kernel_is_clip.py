"""Kernel and twin keep the samples that astropy keeps, and agree with each other bit for bit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
    assert_average,
    assert_same_average,
    average_of_samples,
    clip_with,
    kept_samples,
)
from strategies import DTYPES, KINDS, maxiters, samples_of_kind, sigmas, stacks, stacks_with_errors

import offsky
from offsky.kernel.contract import SIGMA, Averages, Planes, Rule
from offsky.kernel.twin_average import average as twin
from offsky.options import Options
from offsky.testing import encoded_pixels


@settings(max_examples=250)
@given(stack=stacks(), sigma=sigmas, maxiters=maxiters)
def test_each_sample_is_kept_exactly_where_astropy_keeps_it(
    engine: Any, stack: np.ndarray, sigma: float, maxiters: int | None
) -> None:
    # One bit of DQ an exposure cannot show which samples were kept, but ERR can: sample i of a
    # pixel has ERR 2**i, so that the sum of squares is a binary number with one digit a sample.
    n, n_pixels = stack.shape
    kept = kept_samples(stack, sigma, maxiters)
    for first in range(0, n, 24):
        digits = np.zeros((n, n_pixels))
        shown = range(first, min(first + 24, n))
        for i in shown:
            digits[i] = 2.0 ** (i - first)
        got = clip_with(engine, stack, digits, sigma=sigma, maxiters=maxiters, wide=True)
        assert got.err is not None
        with np.errstate(invalid="ignore"):
            squares = np.rint((got.err * got.n_kept) ** 2)
        for i in shown:
            digit = np.mod(np.nan_to_num(squares) // 4.0 ** (i - first), 4.0) == 1.0
            np.testing.assert_array_equal(digit, kept[i], err_msg=f"sample {i}")


@settings(max_examples=250)
@given(samples=stacks_with_errors(), sigma=sigmas, maxiters=maxiters)
def test_mean_err_dq_and_counts_follow_the_formulas(
    engine: Any, samples: Any, sigma: float, maxiters: int | None
) -> None:
    sci, err, dq = samples
    got = clip_with(engine, sci, err, dq, sigma=sigma, maxiters=maxiters)
    assert_average(got, average_of_samples(sci, err, dq, sigma, maxiters))


@settings(max_examples=250)
@given(samples=stacks_with_errors(), sigma=sigmas, maxiters=maxiters, wide=st.booleans())
def test_kernel_and_twin_agree_bit_for_bit(
    kernel: Any, samples: Any, sigma: float, maxiters: int | None, wide: bool
) -> None:
    options: Any = {"sigma": sigma, "maxiters": maxiters, "wide": wide}
    assert_same_average(
        clip_with(kernel, *samples, **options), clip_with(twin, *samples, **options)
    )


@settings(max_examples=100)
@given(stack=stacks(dtypes=DTYPES), sigma=sigmas, maxiters=maxiters)
def test_any_dtype_and_byte_order_is_averaged_as_the_numbers_it_holds(
    engine: Any, stack: np.ndarray, sigma: float, maxiters: int | None
) -> None:
    before = stack.tobytes()
    got = offsky.clipped_mean(stack, sigma=sigma, maxiters=maxiters)
    assert_average(got, average_of_samples(stack, sigma=sigma, maxiters=maxiters))
    assert stack.tobytes() == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 10, 16, 17, 31, 32, 33, 60])
def test_every_number_of_exposures_gives_what_astropy_gives(
    engine: Any, n: int, kind: str
) -> None:
    stack = samples_of_kind(kind, n, 150, seed=n, dtype="<f4")
    for sigma in (1.5, 3.0):
        got = clip_with(engine, stack, sigma=sigma)
        assert_average(got, average_of_samples(stack, sigma=sigma))


@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
@pytest.mark.parametrize("n", [61, 64, 65, 100, 128, 257, 1000])
def test_large_numbers_of_exposures_give_what_astropy_gives(
    engine: Any, n: int, dtype: str
) -> None:
    stack = np.concatenate(
        [samples_of_kind(kind, n, 12, seed=n, dtype=dtype) for kind in KINDS], axis=1
    )
    err = np.random.default_rng(n).uniform(0.5, 1.5, stack.shape)
    got = clip_with(engine, stack, err)
    assert_average(got, average_of_samples(stack, err))


@pytest.mark.parametrize("n", [20, 100])
@pytest.mark.parametrize("level", [0.0, 1.0, 1e4, 1e6])
@pytest.mark.parametrize("outlier", [10.0, 1e3, 1e7, 1e15])
def test_outliers_of_any_size_on_any_level_are_rejected_as_astropy_does(
    engine: Any, n: int, level: float, outlier: float
) -> None:
    # Sums lose digits where an outlier, or the level, is large beside the noise.
    rng = np.random.default_rng(n)
    stack = rng.normal(level, 1.0, (n, 60)).astype(np.float32)
    stack[rng.random(stack.shape) < 0.04] += np.float32(outlier)
    stack[rng.random(stack.shape) < 0.04] = np.nan
    stack[: n * 5 // 6, :9] = np.nan
    for dtype in ("<f4", ">f8"):
        for passes in (None, 2):
            got = clip_with(engine, stack.astype(dtype), maxiters=passes, sigma=2.5)
            assert_average(got, average_of_samples(stack, sigma=2.5, maxiters=passes))


@pytest.mark.parametrize("missing", [0, 3, 4, 5, 13])
def test_flags_of_many_exposures_are_combined_whatever_is_missing(
    engine: Any, missing: int
) -> None:
    n, n_pixels = 40, 779
    rng = np.random.default_rng(missing)
    flags = (1 << rng.integers(0, 32, (n, n_pixels))).astype("u4")
    flags[rng.random(flags.shape) < 0.97] = 0
    orders = np.where(rng.random(n) < 0.3, "<u4", ">u4")
    there = rng.random(n) >= missing / n
    dq = [plane.astype(order) if has else None
          for plane, order, has in zip(flags, orders, there, strict=True)]  # fmt: skip
    out = Averages(np.empty(n_pixels, "f4"), None, np.empty(n_pixels, "u4"),
                   np.empty(n_pixels, "u2"), np.zeros(n, np.int64))  # fmt: skip
    planes = Planes([np.zeros(n_pixels, "f4")] * n, None, dq)
    engine(planes, *[None] * 6, Rule(SIGMA, 3.0, 3.0, -1), 0, n_pixels, out)
    np.testing.assert_array_equal(out.dq, np.bitwise_or.reduce(flags[there], axis=0))


def test_columns_of_every_height_are_sorted(kernel: Any) -> None:
    rng = np.random.default_rng(1)
    for n in (*range(1, 140), 255, 256, 257):
        for dtype in ("f4", "f8"):
            stack = rng.normal(size=(n, 21)).astype(dtype)
            got = offsky.clipped_mean(stack, options=Options(reject="none", combine="median"))
            middle = np.median(stack.astype("f8"), axis=0).astype("f4")
            np.testing.assert_array_equal(got.sci, middle, err_msg=f"{n} {dtype}")


def test_more_exposures_than_n_kept_can_count_are_refused() -> None:
    with pytest.raises(offsky.ParameterError, match="1 to 65535"):
        offsky.clipped_mean(np.zeros((65536, 1), dtype=np.float32))
    full = offsky.clipped_mean(np.ones((65535, 1), dtype=np.float32))
    assert full.n_kept.tolist() == [65535]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 20, 33])
def test_clipping_is_left_out_only_where_it_could_reject_nothing(
    engine: Any, n: int, dtype: str
) -> None:
    # The farthest from the median, in standard deviations, that one of n samples can be: as few
    # as possible at the median, the others at the mean. From five samples on, that is more than
    # n / sqrt(n - 1), which holds for the distance from the mean.
    together = n // 2 + 1
    farthest = (n * (together + 1) / together) ** 0.5
    column = np.zeros(n)
    column[together:-1] = 1.0 / (together + 1)
    column[-1] = 1.0
    lone = np.zeros(n)
    lone[-1] = 1.0
    stack = np.stack([column, -column, lone, -lone, column[::-1]], axis=1).astype(dtype)
    for sigma in (farthest - 0.01, farthest + 0.01, n / (n - 1) ** 0.5, farthest, 0.9 * farthest):
        got = clip_with(engine, stack, sigma=sigma)
        assert_average(got, average_of_samples(stack, sigma=sigma))
    if n > 2:
        rejecting = clip_with(engine, stack, sigma=farthest - 0.01)
        assert rejecting.n_rejected.sum() > 0


@pytest.mark.parametrize("size", [16, 64, 736, 65536])
@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_pixels_at_the_edges_of_tiles_and_chunks_stay_in_place(
    engine: Any, size: int, offset: int
) -> None:
    n_pixels = (3 if size < 65536 else 2) * size + offset
    stack = np.stack([encoded_pixels(i, None, 1, n_pixels)[0] for i in range(3)])
    dq = np.stack([np.arange(n_pixels, dtype=np.uint32)] * 3)
    got = offsky.clipped_mean(stack, 0.5 * stack, dq, threads=2)
    np.testing.assert_array_equal(got.sci, stack[1])
    np.testing.assert_array_equal(got.dq, dq[0])
    np.testing.assert_allclose(got.err, 0.5 * np.sqrt((stack.astype(float) ** 2).sum(0)) / 3, 3e-7)


@pytest.mark.parametrize("n_pixels", [1, 15, 16, 17, 735, 736, 737, 1600])
def test_any_range_of_pixels_is_filled_and_nothing_beside_it(engine: Any, n_pixels: int) -> None:
    rng = np.random.default_rng(n_pixels)
    sci = rng.normal(size=(10, n_pixels)).astype(">f4")
    err, dq = rng.random(sci.shape), rng.integers(0, 9, sci.shape, dtype=np.uint32)
    whole = clip_with(engine, sci, err, dq, sigma=1.5)
    for first, last in {(0, n_pixels), (n_pixels // 3, n_pixels // 2), (n_pixels // 2, n_pixels),
                        (n_pixels, n_pixels)}:  # fmt: skip
        part = clip_with(engine, sci, err, dq, sigma=1.5, window=(first, last))
        for name in ("sci", "err", "dq", "n_kept"):
            filled, expected = getattr(part, name), np.full_like(getattr(whole, name), 7)
            expected[first:last] = getattr(whole, name)[first:last]
            np.testing.assert_array_equal(filled, expected, err_msg=name)


def _misaligned(array: np.ndarray) -> np.ndarray:
    memory = bytearray(array.nbytes + 1)
    shifted = np.frombuffer(memory, dtype=array.dtype, count=array.size, offset=1)
    shifted[:] = array.ravel()
    return shifted.reshape(array.shape)


def _read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.setflags(write=False)
    return copy


LAYOUTS = {
    "read-only": _read_only,
    "Fortran order": np.asfortranarray,
    "every second column": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda a: a[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
    "exposures last in memory": lambda a: np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0),
    "misaligned": _misaligned,
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder("S")),
    "a subclass": lambda a: a.copy().view(np.recarray),
    "nested lists": lambda a: a.tolist() if a.dtype.itemsize == 8 else a,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_any_memory_layout_gives_the_same_bits_and_is_left_alone(
    engine: Any, layout: str, dtype: str
) -> None:
    rng = np.random.default_rng(5)
    sci, err = rng.normal(size=(2, 9, 13, 11)).astype(dtype)
    dq = rng.integers(0, 2**32, sci.shape, dtype=np.uint32)
    expected = offsky.clipped_mean(sci, err, dq, sigma=1.5)
    changed = [LAYOUTS[layout](array) for array in (sci, err, dq)]
    before = [np.asarray(array).tobytes() for array in changed]
    assert_same_average(offsky.clipped_mean(*changed, sigma=1.5), expected)
    assert [np.asarray(array).tobytes() for array in changed] == before


def test_one_exposure_repeated_without_memory_is_averaged(engine: Any) -> None:
    plane = encoded_pixels(0, None, 3, 4)
    got = offsky.clipped_mean(np.broadcast_to(plane, (5, 3, 4)))
    np.testing.assert_array_equal(got.sci, plane)


def test_memory_mapped_big_endian_files_are_averaged_in_place(engine: Any, tmp_path: Any) -> None:
    rng = np.random.default_rng(6)
    stack = rng.normal(size=(5, 31, 17))
    path = tmp_path / "stack.bin"
    stack.astype(">f4").tofile(path)
    mapped = np.memmap(path, dtype=">f4", mode="r", shape=stack.shape)
    before = path.read_bytes()
    got = offsky.clipped_mean(mapped, mapped)
    assert_average(got, average_of_samples(mapped, mapped))
    assert path.read_bytes() == before


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 64])
def test_any_number_of_threads_gives_the_same_bits(engine: Any, threads: int) -> None:
    rng = np.random.default_rng(7)
    sci = rng.normal(size=(4, 2 * 65536 + 19)).astype(np.float32)
    sci[rng.random(sci.shape) < 0.1] = np.nan
    dq = rng.integers(0, 2**32, sci.shape, dtype=np.uint32)
    err = np.where(rng.random(sci.shape) < 0.1, np.nan, np.float32(1.0))
    expected = offsky.clipped_mean(sci, err, dq, sigma=1.4, threads=1)
    assert_same_average(offsky.clipped_mean(sci, err, dq, sigma=1.4, threads=threads), expected)


def test_flags_that_fits_stores_inverted_are_turned_back(engine: Any) -> None:
    flags = np.array([[0, 1, 2**31], [2, 0, 5]], dtype=np.uint32)
    top = 0x80000000
    stored = np.stack([flags[0] ^ np.uint32(top), flags[1]])
    got = clip_with(engine, np.zeros((2, 3), dtype=np.float32), dq=stored, flips=[top, 0])
    np.testing.assert_array_equal(got.dq, [2, 1, 2**31 + 5])


def test_planes_that_are_not_there_count_as_unknown_err_and_no_flag(engine: Any) -> None:
    n_pixels = 3
    sci = [np.full(n_pixels, v, dtype=np.float32) for v in (1.0, 2.0, 3.0)]
    err = [None, np.full(n_pixels, 0.3), None]
    dq = [np.full(n_pixels, 4, dtype=np.uint32), None, None]
    out_sci, out_err = np.empty(n_pixels, np.float32), np.empty(n_pixels, np.float32)
    out_dq, n_kept = np.empty(n_pixels, np.uint32), np.empty(n_pixels, np.uint16)
    out = Averages(out_sci, out_err, out_dq, n_kept, np.zeros(3, dtype=np.int64))
    planes, rule = Planes(sci, err, dq), Rule(SIGMA, 3.0, 3.0, -1)
    n_estimated, n_samples = engine(planes, *[None] * 6, rule, 0, n_pixels, out)
    assert n_estimated == n_pixels
    assert n_samples == 3 * n_pixels
    np.testing.assert_array_equal(out_sci, 2.0)
    np.testing.assert_allclose(out_err, 0.3 * np.sqrt(3) / 3, 3e-7)
    np.testing.assert_array_equal(out_dq, 4)


def _arguments(**changed: Any) -> list[Any]:
    """Return good arguments of the kernel, some of them changed."""
    good: dict[str, Any] = {
        "sci": [np.zeros(8, np.float32)] * 2, "err": [np.zeros(8)] * 2,
        "dq": [np.zeros(8, np.uint32)] * 2, "skip": [np.zeros(8, bool)] * 2,
        "dq_flip": np.zeros(2, np.uint32), "offsets": np.zeros(2), "scales": np.ones(2),
        "maxiters": -1, "first": 0, "last": 8,
        "out_sci": np.empty(8, np.float32), "out_err": np.empty(8, np.float32),
        "out_dq": np.empty(8, np.uint32), "out_n_kept": np.empty(8, np.uint16),
        "n_rejected": np.zeros(2, np.int64), "n_masked": np.zeros(2, np.int64),
    }  # fmt: skip
    assert set(changed) <= set(good)
    a = {**good, **changed}
    return [
        Planes(a["sci"], a["err"], a["dq"], skip=a["skip"]),
        a["dq_flip"], a["offsets"], a["scales"], None, None, None,
        Rule(SIGMA, 3.0, 3.0, a["maxiters"]), a["first"], a["last"],
        Averages(a["out_sci"], a["out_err"], a["out_dq"], a["out_n_kept"], a["n_rejected"],
                 n_masked=a["n_masked"]),
    ]  # fmt: skip


READ_ONLY_ROW = np.zeros(8, np.float32)
READ_ONLY_ROW.setflags(write=False)


@pytest.mark.parametrize(
    "changed",
    [
        {"sci": []},
        {"sci": [np.zeros(8, np.float32)]},
        {"sci": [np.zeros(8, np.float32), None]},
        {"sci": [np.zeros(8, np.float32), np.zeros(7, np.float32)]},
        {"sci": [np.zeros(8, np.int32)] * 2},
        {"sci": [np.zeros(16, np.float32)[::2]] * 2},
        {"err": [np.zeros(8)]},
        {"err": [np.zeros(8, np.uint32)] * 2},
        {"dq": [np.zeros(8, np.float32)] * 2},
        {"dq": [np.zeros(9, np.uint32)] * 2},
        {"dq_flip": np.zeros(3, np.uint32)},
        {"skip": [np.zeros(8, bool)]},
        {"skip": [np.zeros(9, bool)] * 2},
        {"skip": [np.zeros(8, np.uint32)] * 2},
        {"offsets": np.zeros(1)},
        {"offsets": np.zeros(2, np.float32)},
        {"scales": np.zeros(3)},
        {"first": -1},
        {"first": 5, "last": 4},
        {"last": 9},
        {"out_sci": np.empty(7, np.float32)},
        {"out_sci": READ_ONLY_ROW},
        {"out_err": np.empty(8, np.float64)},
        {"out_dq": np.empty(8, np.uint16)},
        {"out_n_kept": np.empty(7, np.uint16)},
        {"out_n_kept": 8},
        {"n_rejected": np.zeros(1, np.int64)},
        {"n_rejected": np.zeros(2, np.int32)},
        {"n_masked": np.zeros(1, np.int64)},
        {"maxiters": 2**70},
    ],
    ids=lambda changed: ", ".join(changed),
)
def test_the_kernel_refuses_buffers_it_would_overrun(kernel: Any, changed: Any) -> None:
    kernel(*_arguments())
    with pytest.raises((ValueError, TypeError, BufferError, OverflowError)):
        kernel(*_arguments(**changed))


def test_shapes_and_parameters_that_make_no_sense_are_refused() -> None:
    good = np.zeros((2, 3))
    for arguments in (
        {"sci": np.float32(1.0)},
        {"sci": np.zeros((0, 3))},
        {"sci": good, "err": np.zeros((2, 4))},
        {"sci": good, "dq": np.zeros((3, 3), dtype=np.uint32)},
        {"sci": good, "sigma": 0.0},
        {"sci": good, "sigma": -1.0},
        {"sci": good, "sigma": np.nan},
        {"sci": good, "maxiters": -1},
        {"sci": good, "threads": 0},
    ):
        with pytest.raises(offsky.ParameterError) as caught:
            offsky.clipped_mean(**arguments)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, ValueError)


def test_without_a_compiled_kernel_the_twin_serves_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from offsky import kernel as c_kernel
    from offsky.combine import planes

    planes._engine.cache_clear()
    monkeypatch.setattr(c_kernel, "average", None)
    try:
        for _ in range(3):
            got = offsky.clipped_mean(np.array([[1.0], [2.0]]))
    finally:
        planes._engine.cache_clear()
    assert got.sci.tolist() == [1.5]
    assert len(caplog.records) == 1
    assert "without a C compiler" in caplog.text


def test_an_empty_image_gives_empty_results(engine: Any) -> None:
    got = offsky.clipped_mean(np.zeros((3, 0, 5)), np.zeros((3, 0, 5)), threads=1)
    assert got.sci.shape == (0, 5)
    assert got.n_rejected.tolist() == [0, 0, 0]
    many = offsky.clipped_mean(np.zeros((3, 0, 5)), threads=2)
    assert many.sci.shape == (0, 5)


def test_an_average_says_what_it_is_in_one_line() -> None:
    sci = np.random.default_rng(3).normal(size=(5, 100, 100)).astype(np.float32)
    got = offsky.clipped_mean(sci)
    assert repr(got) == "ClippedMean(5 x (100, 100), rejected 0.0 %)"
    sci[0, :50] = 1000.0
    clipped = offsky.clipped_mean(sci, sigma=1.9)
    share = 100 * clipped.n_rejected.sum() / sci.size
    assert share > 10
    assert repr(clipped) == f"ClippedMean(5 x (100, 100), rejected {share:.1f} %)"
