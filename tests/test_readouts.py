"""Readouts that a window does not describe: stripes of the detector, turned axes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from doors import DoorError, made_by
from plain import expose, pixels
from scenes import Job

import offsky
from offsky.selection.precedents import Precedents
from offsky.selection.suitability import Policy

STRIPES: dict[str, Any] = {
    "INSTRUME": "NIRCAM",
    "DETECTOR": "NRCA1",
    "EXP_TYPE": "NRC_TSIMAGE",
    "SUBARRAY": "SUB41STRIPE1_DHS",
    "FASTAXIS": -1,
    "SLOWAXIS": 2,
    "MSTR_RD1": 1,
    "MSTR_SK1": 4,
    "MSTR_RD2": 5,
    "MSTR_SK2": 3,
    "MSTR_RPT": 0,
    "MSTR_ILV": 0,
    "SSTR_NST": 0,
}
WINDOW = {"SUBSIZE1": 2048, "SUBSIZE2": 11}


def _stripes(path: Path, value: float, **more: Any) -> Path:
    return expose(path, value, shape=(11, 2048), **{**STRIPES, **WINDOW, **more})


def test_the_same_stripes_are_one_window(folder: Path, door: Any) -> None:
    target, background = _stripes(folder / "t_rate.fits", 10), _stripes(folder / "b_rate.fits", 3)
    job = Job(target, (background,))
    assert (pixels(made_by(door, job, folder / "out")) == 7).all()


@pytest.mark.parametrize(
    "other", [{"MSTR_SK1": 5}, {"MSTR_SK2": 9}, {"MSTR_RPT": 1}, {"SUBSTRT2": 2}]
)
def test_other_stripes_of_the_same_size_are_refused(folder: Path, door: Any, other: Any) -> None:
    target = _stripes(folder / "t_rate.fits", 10)
    job = Job(target, (_stripes(folder / "b_rate.fits", 3, **other),))
    if door.name == "step":
        pytest.skip("stpipe leaves the target open where a step raises")
    with pytest.raises(DoorError):
        made_by(door, job, folder / "out")


@pytest.mark.parametrize("force", [False, True])
def test_stripes_and_a_full_frame_are_refused_with_the_reason(folder: Path, force: bool) -> None:
    stripes = _stripes(folder / "t_rate.fits", 10)
    none = dict.fromkeys(key for key in STRIPES if key[:4] in ("MSTR", "SSTR"))
    keywords = {**STRIPES, **none, "SUBARRAY": "FULL", "SUBSIZE1": 2048, "SUBSIZE2": 32}
    frame = expose(folder / "b_rate.fits", 3, shape=(32, 2048), **keywords)
    for target, background in ((stripes, frame), (frame, stripes)):
        with pytest.raises(
            offsky.ExposureMismatchError, match=r"subarray of stripes .*generate_stripe_reference"
        ):
            offsky.subtract_file(target, [background], folder / "out.fits", force=force)


def test_another_layout_is_other_rows_for_the_pipeline() -> None:
    utils = pytest.importorskip("jwst.lib.stripe_utils")
    rows = np.broadcast_to(np.arange(2048)[:, np.newaxis], (2048, 2048))
    names = {"MSTR_RD1": "multistripe_reads1", "MSTR_SK1": "multistripe_skips1"}
    names |= {"MSTR_RD2": "multistripe_reads2", "MSTR_SK2": "multistripe_skips2"}
    names |= {"MSTR_RPT": "repeat_stripe", "MSTR_ILV": "interleave_reads1"}
    names |= {"SSTR_NST": "num_superstripe", "FASTAXIS": "fastaxis", "SLOWAXIS": "slowaxis"}

    def cut(**more: Any) -> np.ndarray:
        cards = {**STRIPES, **more}
        subarray = SimpleNamespace(xsize=2048, ysize=11, xstart=1, ystart=1, name="STRIPE")
        for key, name in names.items():
            setattr(subarray, name, cards[key])
        model = SimpleNamespace(meta=SimpleNamespace(subarray=subarray))
        return np.asarray(utils.generate_stripe_reference(rows, model)[:, 0])

    assert (cut() == [0, *range(5, 10), *range(13, 18)]).all()
    assert (cut(MSTR_SK1=5) != cut()).any()


def test_stripes_count_for_what_is_decided_once(folder: Path) -> None:
    from contextlib import closing

    from offsky.io.files import open_exposure
    from offsky.selection.choose import candidate_of

    paths = [
        _stripes(folder / "a_rate.fits", 1),
        _stripes(folder / "b_rate.fits", 1),
        _stripes(folder / "c_rate.fits", 1, MSTR_SK1=5),
    ]
    candidates = []
    for path in paths:
        with closing(open_exposure(path)) as exposure:
            candidates.append(candidate_of(exposure))
    precedents = Precedents(Policy())
    assert precedents.all_used(candidates[0], [candidates[1]])
    assert not precedents.all_used(candidates[0], [candidates[2]])


@pytest.mark.parametrize("keyword", ["FASTAXIS", "SLOWAXIS"])
def test_turned_axes_are_another_configuration(folder: Path, keyword: str) -> None:
    target = expose(folder / "t_rate.fits", 10, **{keyword: 1})
    background = expose(folder / "b_rate.fits", 3, **{keyword: -1})
    with pytest.raises(offsky.ExposureMismatchError, match=f"{keyword} -1 differs"):
        offsky.subtract_file(target, [background], folder / "out.fits")
    offsky.subtract_file(target, [background], folder / "out.fits", force=True)
    assert (pixels(folder / "out.fits") == 7).all()
