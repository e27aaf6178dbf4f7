"""Units are those of SCI, and compared as units, not as texts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from doors import DoorError, made_by
from plain import expose, pixels, run
from scenes import Job

import offsky
from offsky.units import kind_of, relation


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("DN/s", "DN / s", "same"),
        ("DN/s", "dn s-1", "same"),
        ("MJy/sr", "MJy sr-1", "same"),
        ("electrons/s", "ELECTRON/s", "same"),
        ("counts/s", "count / s", "same"),
        ("mJy", "MJy", "convertible"),
        ("mJy/sr", "MJy/sr", "convertible"),
        ("DN/s", "MJy/sr", "different"),
        ("strange", "STRANGE", "same"),
        ("strange", "DN/s", "different"),
    ],
)
def test_units_are_related(one: str, other: str, expected: str) -> None:
    assert relation(one, other) == relation(other, one) == expected
    assert (kind_of(one) == kind_of(other)) == (expected == "same")


def _primary_unit(path: Path, unit: str) -> Path:
    with fits.open(path, mode="update") as hdus:
        hdus[0].header["BUNIT"] = unit
    return path


@pytest.mark.parametrize("stale", ["", "DN/s"])
def test_a_unit_of_the_primary_does_not_hide_that_of_sci(
    folder: Path, door: Any, stale: str
) -> None:
    target = _primary_unit(expose(folder / "t_rate.fits", 5, BUNIT="MJy/sr"), stale)
    background = expose(folder / "b_rate.fits", 3, BUNIT="DN/s")
    alike = expose(folder / "c_rate.fits", 3, BUNIT="MJy/sr")
    assert (pixels(made_by(door, Job(target, (alike,)), folder / "out")) == 2).all()
    if door.name == "step":
        pytest.skip("stpipe leaves the target open where a step raises")
    with pytest.raises(DoorError):
        made_by(door, Job(target, (background,)), folder / "more")


def test_a_unit_of_the_primary_alone_is_still_read(folder: Path) -> None:
    target = _primary_unit(expose(folder / "t_rate.fits", 5, BUNIT=None), "MJy/sr")
    background = expose(folder / "b_rate.fits", 3, BUNIT="DN/s")
    with pytest.raises(offsky.ExposureMismatchError, match="MJy/sr"):
        offsky.subtract_file(target, [background], folder / "out.fits")


def test_spellings_of_one_unit_go_together_and_others_are_refused_by_name(folder: Path) -> None:
    target = expose(folder / "t_rate.fits", 5, BUNIT="MJy/sr")
    spelled = expose(folder / "b_rate.fits", 3, BUNIT="MJy sr-1")
    offsky.subtract_file(target, [spelled], folder / "out.fits")
    assert (pixels(folder / "out.fits") == 2).all()
    smaller = expose(folder / "c_rate.fits", 3, BUNIT="mJy/sr")
    for force in (False, True):
        with pytest.raises(
            offsky.ExposureMismatchError, match=r"unit 'mJy/sr' differs .*'MJy/sr'; convert"
        ):
            offsky.subtract_file(
                target, [smaller], folder / "out.fits", overwrite=True, force=force
            )


def test_a_plan_pairs_spellings_of_one_unit_and_no_other(folder: Path) -> None:
    for name, value, unit, dedicated in (
        ("t", 5, "MJy/sr", False),
        ("b", 3, "MJy sr-1", True),
        ("c", 100, "mJy/sr", True),
    ):
        expose(folder / f"{name}_rate.fits", value, BUNIT=unit, BKGDTARG=dedicated)
    assert run("run", folder, "--from", "dedicated", "-o", folder / "out") == 0
    assert (pixels(folder / "out" / "t_bsub.fits") == 2).all()


def test_coordinates_are_those_of_sci(folder: Path) -> None:
    path = expose(folder / "t_rate.fits", RA_REF=1.0)
    with fits.open(path, mode="update") as hdus:
        hdus["SCI"].header["RA_REF"] = 150.0
    from offsky.io.fits import FitsExposure

    with FitsExposure(path) as exposure:
        assert exposure.metadata.ra_ref == 150.0


def test_units_of_one_text_are_compared_without_astropy_units() -> None:
    code = (
        "import sys; from offsky.units import relation; relation('DN/s', 'DN/s'); "
        "sys.exit('astropy.units' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
