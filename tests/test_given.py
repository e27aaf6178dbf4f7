"""Arrays as people have them: no mask, unit or uncertainty is lost without a word."""

from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.utils.masked import Masked

import offsky
from offsky.testing import write_exposure

SAMPLES = np.full((5, 4, 6), 10.0, "f4")
SAMPLES[0] = 1000.0
MASK = np.zeros(SAMPLES.shape, bool)
MASK[0] = True


def _ccds(**more: Any) -> list[CCDData]:
    return [CCDData(s, unit="adu", mask=m, **more) for s, m in zip(SAMPLES, MASK, strict=True)]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(np.ma.array(SAMPLES, mask=MASK), id="numpy.ma"),
        pytest.param(list(np.ma.array(SAMPLES, mask=MASK)), id="list of numpy.ma"),
        pytest.param(np.ma.array(SAMPLES.astype("i2"), mask=MASK), id="integers"),
        pytest.param(Masked(SAMPLES, mask=MASK), id="Masked"),
        pytest.param(Masked(SAMPLES * u.DN, mask=MASK), id="masked Quantity"),
        pytest.param(_ccds(), id="CCDData"),
        pytest.param(NDData(SAMPLES, mask=MASK), id="NDData"),
    ],
)
def test_masked_samples_are_left_out_as_sigma_clip_leaves_them_out(given: Any) -> None:
    average = offsky.clipped_mean(given)
    assert (average.sci == 10).all()
    assert (average.n_kept == 4).all()
    assert SAMPLES[0, 0, 0] == 1000


def test_a_sample_that_is_masked_in_err_or_dq_is_left_out() -> None:
    for name in ("err", "dq"):
        plane = np.ma.array(np.zeros(SAMPLES.shape, "u4" if name == "dq" else "f4"), mask=MASK)
        average = offsky.clipped_mean(SAMPLES, **{name: plane})
        assert (average.sci == 10).all(), name


def test_the_unit_is_carried_and_compared() -> None:
    average = offsky.clipped_mean(SAMPLES * u.DN, err=0.1 * SAMPLES * u.DN)
    assert average.unit == "DN"
    assert offsky.clipped_mean(_ccds()).unit == "adu"
    assert offsky.clipped_mean(SAMPLES).unit is None
    with pytest.raises(offsky.ParameterError, match=r"err has the unit 's' where sci has 'DN'"):
        offsky.clipped_mean(SAMPLES * u.DN, err=SAMPLES * u.s)
    with pytest.raises(offsky.ParameterError, match="err has the unit 'DN' where sci has 'none'"):
        offsky.clipped_mean(SAMPLES, err=SAMPLES * u.DN)
    with pytest.raises(offsky.ParameterError, match=r"sci\[1\]: unit 'mJy' differs"):
        offsky.clipped_mean([SAMPLES[1] * u.MJy, SAMPLES[1] * u.mJy])
    squared = offsky.clipped_mean(SAMPLES * u.DN, var_rnoise=SAMPLES * u.DN**2)
    assert squared.unit == "DN"


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_the_uncertainty_of_nddata_is_its_err(kind: Any) -> None:
    power = {"std": 1, "var": 2, "ivar": -2}[kind(np.ones(1)).uncertainty_type]
    sigma = np.full(SAMPLES[0].shape, 3.0)
    ccds = [CCDData(s, unit="adu", uncertainty=kind(sigma**power)) for s in SAMPLES[1:]]
    average = offsky.clipped_mean(ccds)
    assert average.err is not None
    np.testing.assert_allclose(average.err, 1.5)
    with pytest.raises(offsky.ParameterError, match="err is given, and sci has an uncertainty"):
        offsky.clipped_mean(ccds, err=SAMPLES[1:])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (SAMPLES.astype(complex), "complex"),
        (np.array([["a"]]), "values; give numbers"),
        ([[1.0], [1.0, 2.0]], "no array"),
    ],
)
def test_what_is_no_number_is_refused(given: Any, said: str) -> None:
    with pytest.raises(offsky.ParameterError, match=said):
        offsky.clipped_mean(given)


def test_a_float_dq_that_is_no_flag_counts_as_bad() -> None:
    dq = np.zeros(SAMPLES.shape)
    dq[0] = np.nan
    average = offsky.clipped_mean(SAMPLES, dq=dq, options=offsky.Options(dq="kept"))
    assert (average.sci == 10).all()
    assert (average.dq == 0).all()


def test_a_model_and_a_mask_with_a_mask_or_a_unit_are_refused(tmp_path: Any) -> None:
    datamodels = pytest.importorskip("stdatamodels.jwst.datamodels")
    one, other = (
        write_exposure(tmp_path / f"{name}_rate.fits", sci=SAMPLES[1], err=SAMPLES[1])
        for name in "ab"
    )
    odd = np.ma.array(np.zeros(SAMPLES[0].shape), mask=MASK[0])
    with pytest.raises(offsky.ParameterError, match="a mask has a mask"):
        offsky.subtract_file(one, [other], tmp_path / "out.fits", masks=[odd])
    with datamodels.open(one) as target, datamodels.open(other) as background:
        for array in (np.ma.array(SAMPLES[1], mask=MASK[0]), SAMPLES[1] * u.DN):
            background.instance["data"] = array
            with pytest.raises(offsky.ExposureError, match=r"data has a (mask|unit)"):
                offsky.subtract(target, [background])


@pytest.mark.parametrize("given", [3, [1], "x", {}])
def test_what_cannot_be_called_is_no_progress(given: Any) -> None:
    for call in (
        lambda: offsky.subtract_file("t.fits", ["b.fits"], progress=given),
        lambda: offsky.subtract("t.fits", ["b.fits"], progress=given),
        lambda: offsky.average(["b.fits"], on_outcome=given),
        lambda: offsky.average_file(["b.fits"], "o.fits", progress=given),
        lambda: offsky.subtract_association("a.json", progress=given),
    ):
        with pytest.raises(offsky.ParameterError, match="give a function, or None"):
            call()


@pytest.mark.parametrize("given", [3, None, "b.fits", np.array(3), {"b.fits": 1}])
def test_what_is_no_list_is_no_backgrounds(given: Any) -> None:
    for call in (lambda: offsky.subtract("t.fits", given), lambda: offsky.average(given)):
        with pytest.raises(offsky.ParameterError, match=r"backgrounds is .*: give a list"):
            call()


def test_threads_beyond_any_machine_are_refused() -> None:
    for number in (1025, 10**30, 10**400):
        with pytest.raises(offsky.ParameterError, match="give 1 to 1024"):
            offsky.subtract_file("t.fits", ["b.fits"], threads=number)
