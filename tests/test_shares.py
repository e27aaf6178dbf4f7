"""The share of a group of exposures in the mean: told by kernel and twin alike."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import same_bits
from test_rejection import inputs, options_of_any_kind, with_engine

from offsky.combine.planes import average_planes
from offsky.combine.rule import median_factors, rule_of
from offsky.kernel import average as in_c
from offsky.kernel.contract import Averages, Planes, Shares
from offsky.kernel.twin_average import average as twin
from offsky.options import Options


def shares_of(
    engine: Any, planes: Planes, groups: list[int], options: Options, **how: Any
) -> Averages:
    """Average with an engine, and ask for shares; results begin as a pattern of sevens."""
    n, n_pixels = len(planes.sci), len(planes.sci[0])
    out = Averages(
        *(np.full(n_pixels, 7, "f4") for _ in range(2)),
        np.full(n_pixels, 7, "u4"), np.full(n_pixels, 7, "u2"), np.zeros(n, np.int64),
        shares=Shares(
            np.array(groups, "i4"), [np.full(n_pixels, 7, "f4") for _ in range(max(groups) + 1)]
        ),
    )  # fmt: skip
    factors = median_factors(n) if options.combine == "median" else None
    engine(
        planes, None, None, how.get("scales"), how.get("weights"), None, factors,
        rule_of(options), 0, n_pixels, out,
    )  # fmt: skip
    return out


@settings(max_examples=150)
@given(
    drawn=inputs(),
    options=options_of_any_kind() | st.builds(Options),
    data=st.data(),
    moved=st.booleans(),
)
def test_kernel_and_twin_tell_the_same_shares_bit_for_bit(
    kernel: Any, drawn: Any, options: Options, data: Any, moved: bool
) -> None:
    planes, weights = drawn
    n = len(planes.sci)
    groups = data.draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n))
    how = {
        "weights": weights if options.weight != "equal" else None,
        "scales": np.resize([1.0, 1.1, -0.3, 1 / 3], n) if moved else None,
    }
    one, other = (shares_of(e, planes, groups, options, **how) for e in (in_c, twin))
    assert one.shares is not None
    assert other.shares is not None
    for a, b in zip(one.shares.planes, other.shares.planes, strict=True):
        assert same_bits(a, b)
    # What is averaged does not depend on who asks for shares.
    if not moved:
        plain, _, _ = with_engine(in_c, planes, weights, options)
        for name in ("sci", "err", "dq", "n_kept", "n_rejected"):
            assert same_bits(getattr(one, name), getattr(plain, name)), name


def test_a_share_is_the_weight_of_the_kept_samples_of_the_group(engine: Any) -> None:
    rng = np.random.default_rng(5)
    sci = rng.normal(10, 1, (9, 40, 7)).astype("f4")
    sci[2, 3:9] += 500
    sci[4, 5] = np.nan
    scales, weights = rng.uniform(0.5, 2, 9), rng.uniform(0.2, 1, 9)
    sci /= scales.astype("f4")[:, None, None]
    options = Options(sigma=2.0, weight="integrations")
    groups = [0, 1, -1, 0, 0, 2, 1, 0, -1]
    got = average_planes(
        list(sci), None, None, options=options, weights=weights, scales=scales, groups=groups
    )
    # The exposures that are kept, by their bits in DQ.
    bits = [np.full(sci[0].shape, 256 << i, "u4") for i in range(9)]
    told = average_planes(
        list(sci), None, bits, options=options.changed(dq="kept"), weights=weights, scales=scales
    )
    assert told.dq is not None
    kept = (told.dq[None] >> np.arange(8, 17)[:, None, None]) & 1 == 1
    weight = weights / weights.max()
    total = np.where(kept, weight[:, None, None], 0).sum(axis=0)
    assert len(got.shares) == 3
    for g, share in enumerate(got.shares):
        own = (np.array(groups) == g)[:, None, None] & kept
        expected = np.where(own, (weight * scales)[:, None, None], 0).sum(axis=0) / total
        np.testing.assert_allclose(share, expected, rtol=1e-6)
    assert not np.allclose(got.shares[0], got.shares[0][0, 0])


def test_the_kernel_refuses_shares_that_it_would_overrun(kernel: Any) -> None:
    good = shares_of(in_c, Planes([np.zeros(8, "f4")] * 2), [0, -1], Options())
    assert good.shares is not None
    for shares in (
        good.shares._replace(groups=np.zeros(3, "i4")),
        good.shares._replace(groups=np.zeros(2, "i8")),
        good.shares._replace(planes=[np.zeros(7, "f4")]),
        good.shares._replace(planes=[np.zeros(8, "f8")]),
        good.shares._replace(planes=[None]),
        (np.zeros(2, "i4"),),
        3,
    ):
        with pytest.raises((ValueError, TypeError, BufferError)):
            in_c(
                Planes([np.zeros(8, "f4")] * 2), None, None, None, None, None, None,
                rule_of(Options()), 0, 8, good._replace(shares=shares),
            )  # fmt: skip


def test_a_method_of_ones_own_that_tells_no_shares_leaves_them_unknown(engine: Any) -> None:
    from offsky.combine import planes as module

    def first_sample(planes: Any, numbers: Any, rule: Any, first: int, last: int, out: Any) -> Any:
        out.sci[first:last] = planes.sci[0][first:last]
        out.n_kept[first:last] = 1
        return 0, last - first

    module.METHODS["mean"], before = first_sample, module.METHODS["mean"]
    try:
        got = average_planes([np.ones((2, 3), "f4")] * 2, None, None, options=Options(),
                             groups=[0, 0])  # fmt: skip
    finally:
        module.METHODS["mean"] = before
    assert np.isnan(got.shares[0]).all()
