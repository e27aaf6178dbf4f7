"""Planes are masked, scaled and moved as they are read: as if copies of them had been made."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_same_average, same_bits
from strategies import FLOATS, KINDS, samples_of_kind

from offsky.combine.planes import average_planes
from offsky.errors import ParameterError
from offsky.options import PROFILES, Options

OPTIONS = (
    Options(),
    Options(reject="none", errors="propagate"),
    PROFILES["offsky"],
    Options(reject="mad", combine="median", errors="propagate", dq="all"),
    Options(weight="integrations", center="mean", min_keep=1),
)


def adjusted(array: np.ndarray, factor: float, offset: float = 0.0) -> np.ndarray:
    """Return a copy in its own type: times a factor, plus an offset, each rounded to it."""
    kind = array.dtype.newbyteorder("=").type
    with np.errstate(all="ignore"):
        copy = np.multiply(array, kind(factor))
        return copy + kind(offset) if offset != 0 else copy


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    kind=st.sampled_from(KINDS),
    dtypes=st.tuples(*[st.sampled_from(FLOATS)] * 3),
    options=st.sampled_from(OPTIONS),
    threads=st.sampled_from([1, 2]),
)
def test_adjusted_planes_give_the_bits_of_adjusted_copies(
    engine: Any, seed: int, n: int, kind: str, dtypes: Any, options: Options, threads: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = (n, 3, 131)
    sci = samples_of_kind(kind, n, 3 * 131, seed, dtypes[0]).reshape(shape)
    err, var = (rng.uniform(0.5, 2.0, shape).astype(dtype) for dtype in dtypes[1:])
    dq = np.where(rng.random(shape) < 0.1, 1, 0).astype("u4")
    skip = [None if i % 3 == 2 else rng.random(shape[1:]) < 0.2 for i in range(n)]
    scales = rng.choice([1.0, 1.1, 0.3, -2.0, 1 / 3, 1e30], n)
    offsets = rng.choice([0.0, 0.1, -30.0, 1e-50], n)
    weights = rng.uniform(0.5, 1.0, n)
    before = sci.tobytes(), err.tobytes(), var.tobytes()

    def average(sci: Any, err: Any, poisson: Any, rnoise: Any, **how: Any) -> Any:
        return average_planes(
            list(sci),
            list(err),
            list(dq),
            options=options,
            variances=(list(poisson), list(rnoise)),
            weights=weights,
            **how,
        )

    got = average(sci, err, var, var, skip=skip, offsets=offsets, scales=scales, threads=threads)
    copies = [adjusted(*each) for each in zip(sci, scales, offsets, strict=True)]
    n_masked = []
    for copy, mask in zip(copies, skip, strict=True):
        n_masked.append(0 if mask is None else int(np.isfinite(copy[mask]).sum()))
        if mask is not None:
            copy[mask] = np.nan
    squares = [float(scale) ** 2 for scale in scales]
    expected = average(
        copies,
        [adjusted(*each) for each in zip(err, abs(scales), strict=True)],
        *[[adjusted(*each) for each in zip(var, squares, strict=True)]] * 2,
    )
    assert got.n_masked.tolist() == n_masked
    assert got.n_samples == sum(int(np.isfinite(copy).sum()) for copy in copies)
    for name in ("sci", "err", "dq", "n_kept", "n_rejected", "var_poisson", "var_rnoise"):
        assert same_bits(getattr(got, name), getattr(expected, name)), name
    assert got.n_err_estimated == expected.n_err_estimated
    assert before == (sci.tobytes(), err.tobytes(), var.tobytes())


def test_every_part_of_a_result_goes_where_there_is_room(engine: Any) -> None:
    rng = np.random.default_rng(2)
    sci = rng.normal(size=(4, 5, 7)).astype("f4")
    how: dict[str, Any] = {
        "options": Options(errors="propagate"),
        "variances": (list(sci**2), list(sci**2)),
    }
    planes = list(sci), list(abs(sci)), list(np.zeros(sci.shape, "u4"))
    names = {"sci": "f4", "err": "f4", "dq": "u4", "n_kept": "u2", "var_poisson": "f4",
             "var_rnoise": "f4"}  # fmt: skip
    room = {name: np.zeros((5, 7), dtype) for name, dtype in names.items()}
    got, expected = average_planes(*planes, room=room, **how), average_planes(*planes, **how)
    assert_same_average(got, expected)
    for name in names:
        assert np.shares_memory(getattr(got, name), room[name]), name
        assert same_bits(room[name], getattr(expected, name)), name
    with pytest.raises(ValueError, match="sci"):
        average_planes(*planes, room={"sci": np.zeros((5, 14), "f4")[:, ::2]}, **how)


@pytest.mark.parametrize("name", ["offsets", "scales"])
@pytest.mark.parametrize("numbers", [[1.0], [1.0, np.nan], [1.0, np.inf]])
def test_numbers_that_move_an_exposure_are_checked(name: str, numbers: list[float]) -> None:
    planes = [np.zeros((1, 1), "f4")] * 2
    with pytest.raises(ParameterError, match=f"{name} .* for 2 exposures"):
        average_planes(planes, None, None, options=Options(), **{name: numbers})
