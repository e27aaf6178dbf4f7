"""Keywords as people's tools write them: what a job does not need does not stop it."""

import logging
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from doors import made_by
from plain import NIRSPEC, expose, pixels, run
from scenes import Job

import offsky
from offsky.io.fits import FitsExposure
from offsky.options import Options
from offsky.programme.planning import make_plan
from offsky.selection.pairing import Pairing
from offsky.values.metadata import UNREADABLE, metadata_of


def add_card(path: Path, card: str | bytes) -> Path:
    """Write a card into a primary header as it is."""
    raw = path.read_bytes()
    end = raw.index(b"END" + b" " * 77)
    new = card if isinstance(card, bytes) else card.encode()
    assert raw[end + 80 : end + 160].strip() == b""
    path.write_bytes(raw[:end] + new.ljust(80) + raw[end : end + 80] + raw[end + 160 :])
    return path


CARDS = [
    "RA_V1   =                  nan",
    "EXPMID  = 'N/A     '",
    "XOFFSET = '0.0     '",
    "EXPSTART=                  inf",
    "GWA_XTIL= 'none    '",
    "BKGDTARG= 'perhaps '",
    "GRATING =                    5",
    "TARGTYPE=                    T",
    "EXPEND  = #",
]


@pytest.mark.parametrize("card", CARDS)
def test_a_keyword_that_is_not_needed_stops_nothing(folder: Path, card: str) -> None:
    target = expose(folder / "t_rate.fits", 10)
    background = add_card(expose(folder / "b_rate.fits", 3), card)
    offsky.subtract_file(target, [background], folder / "out.fits")
    assert (pixels(folder / "out.fits") == 7).all()
    plan = folder / "plan.json"
    # With another grating than the target's both are alone: the plan says so, and is there.
    status = int(card.startswith("GRATING"))
    assert run("plan", folder, "--suffix", "rate", "--from", "dithers", "-o", plan) == status
    assert plan.is_file()


@pytest.mark.parametrize("card", CARDS[1:3])
def test_no_door_is_stopped(folder: Path, door: Any, card: str) -> None:
    background = add_card(expose(folder / "b_rate.fits", 3), card)
    if door.name in ("model", "step"):
        pytest.skip("stdatamodels warns of a value that its schema does not allow")
    job = Job(expose(folder / "t_rate.fits", 10), (background,))
    assert (pixels(made_by(door, job, folder / "out")) == 7).all()


@pytest.mark.parametrize("keyword", ["SUBSTRT1", "SUBSIZE2"])
def test_a_window_that_is_no_number_is_told(folder: Path, keyword: str) -> None:
    target = expose(folder / "t_rate.fits", 10)
    background = expose(folder / "b_rate.fits", 3, **{keyword: "one"})
    with pytest.raises(offsky.ExposureMismatchError, match=f"keyword {keyword} is 'one'"):
        offsky.subtract_file(target, [background], folder / "out.fits")
    background = expose(folder / "b_rate.fits", 3, SUBSTRT1="1")
    offsky.subtract_file(target, [background], folder / "out.fits")


def test_a_tilt_that_is_no_number_is_told_where_it_is_needed(folder: Path) -> None:
    target = expose(folder / "t_rate.fits", 10, keywords=NIRSPEC)
    background = expose(folder / "b_rate.fits", 3, keywords={**NIRSPEC, "GWA_XTIL": "N/A"})
    outcome = offsky.subtract_file(target, [background], folder / "out.fits")
    assert outcome.status == "SKIPPED"
    assert "GWA_XTIL is 'N/A', no number" in outcome.dropped[0][1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True), ("T", True), ("true", True), (1, True), ("1", True), (1.0, True),
        (False, False), ("F", False), ("FALSE", False), (0, False), ("no", False), ("", None),
        ("perhaps", None), (2, None), (UNREADABLE, None),
    ],
)  # fmt: skip
def test_truth_values_are_read_in_all_forms(value: Any, expected: bool | None) -> None:
    facts = metadata_of(lambda name: value if name == "bkgdtarg" else None)
    assert facts.bkgdtarg is expected
    assert (facts.odd == ()) == (expected is not None or value == "")


@pytest.mark.parametrize(("yes", "no"), [("T", "F"), ("TRUE", "FALSE"), (1, 0), ("1", "0")])
def test_a_plan_reads_truth_values_as_text(folder: Path, yes: Any, no: Any) -> None:
    expose(folder / "t_rate.fits", 10, BKGDTARG=no)
    expose(folder / "b_rate.fits", 3, BKGDTARG=yes)
    assert run("run", folder, "--from", "dedicated", "-o", folder / "out") == 0
    assert [path.name for path in (folder / "out").glob("*.fits")] == ["t_bsub.fits"]
    assert (pixels(folder / "out" / "t_bsub.fits") == 7).all()


def test_a_truth_value_that_is_none_is_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expose(folder / "t_rate.fits", 10, BKGDTARG="perhaps")
    expose(folder / "b_rate.fits", 3, BKGDTARG=True)
    with caplog.at_level(logging.WARNING):
        make_plan([folder], pairing=Pairing(source="dedicated"), options=Options())
    assert "BKGDTARG is 'perhaps', no truth value" in caplog.text


def test_numbers_as_text_and_texts_as_numbers_are_read(folder: Path) -> None:
    path = expose(folder / "a_rate.fits", PROGRAM=1234, NGROUPS="36", EFFEXPTM="99.9", PUPIL=" ")
    with FitsExposure(path) as exposure:
        facts = exposure.metadata
    assert (facts.program, facts.ngroups, facts.exposure_time) == ("1234", 36, 99.9)
    assert facts.pupil is None
    assert fits.getheader(path)["PROGRAM"] == 1234
