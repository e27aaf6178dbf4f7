"""`offsky inspect`: what a file is, what it has been through, and which of many is odd."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import plain
import pytest
from astropy.io import fits

import offsky
from offsky.io.inspected import inspect_file


def sky(seed: int, shape: tuple[int, ...] = (40, 50)) -> np.ndarray:
    return 5 + np.random.default_rng(seed).normal(0, 0.1, shape)


def told(capsys: pytest.CaptureFixture[str], *arguments: Any) -> list[dict[str, Any]]:
    """Inspect files as JSON."""
    capsys.readouterr()
    plain.run("inspect", "--json", *arguments)
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def text(capsys: pytest.CaptureFixture[str], *arguments: Any, status: int = 0) -> str:
    capsys.readouterr()
    assert plain.run("inspect", *arguments) == status
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("keywords", "subtraction", "words"),
    [
        ({}, "none", "no step has tried"),
        ({"S_BKDSUB": "SKIPPED"}, "none", "the step was SKIPPED"),
        ({"S_BKDSUB": "COMPLETE"}, "pixels", "pixel by pixel"),
        ({"S_BKDSUB": "COMPLETE", "R_WFSBKG": "crds://x.fits"}, "pixels", "crds://x.fits"),
        ({"S_MSBSUB": "COMPLETE"}, "master", "master background"),
        ({"S_BKDSUB": "COMPLETE", "S_MSBSUB": "COMPLETE"}, "pixels", "as well"),
    ],
)
def test_products_of_the_pipeline_are_understood(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    keywords: dict[str, Any],
    subtraction: str,
    words: str,
) -> None:
    path = plain.expose(folder / "x_rate.fits", sky(0), keywords=keywords)
    (found,) = told(capsys, path)
    assert found["subtraction"] == subtraction
    assert words in found["subtraction_words"]
    assert found["mode"] == "MIR_IMAGE"
    assert words in text(capsys, path)


@pytest.mark.parametrize("profile", ["jwst", "offsky"])
def test_the_options_of_a_product_are_read_back(
    folder: Path, capsys: pytest.CaptureFixture[str], profile: str
) -> None:
    paths = [plain.expose(folder / f"{name}_rate.fits", sky(i)) for i, name in enumerate("tabc")]
    made = offsky.subtract_file(
        paths[0],
        paths[1:],
        folder / "t_bsub.fits",
        combined_path=folder / "t_combinedbackground.fits",
        profile=profile,
        sigma=2.5,
    )
    product, average = told(capsys, "t_bsub.fits", "t_combinedbackground.fits")
    assert product["subtraction"] == "offsky"
    assert product["options"] == {"profile": profile, "sigma": 2.5}
    assert product["kind"] == "subtracted exposure"
    assert product["backgrounds"] == ["a_rate.fits", "b_rate.fits", "c_rate.fits"]
    assert average["kind"] == "averaged background"
    assert [row["NAME"] for row in average["inputs"]] == product["backgrounds"]
    assert [row["N_REJECTED"] for row in average["inputs"]] == list(made.n_rejected)
    shown = text(capsys, "t_bsub.fits")
    assert "the average of 3 exposures" in shown
    assert "OFFSIG" in shown
    assert "  b_rate.fits" in shown
    assert "N_REJECTED".lower() in text(capsys, "t_combinedbackground.fits")


def test_a_product_that_was_subtracted_twice_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [plain.expose(folder / f"{name}_rate.fits", sky(i)) for i, name in enumerate("tab")]
    offsky.subtract_file(paths[0], paths[1:], folder / "t_bsub.fits")
    offsky.subtract_file(
        folder / "t_bsub.fits", paths[1:], folder / "u_bsub.fits", force=True, level="offset"
    )
    once, twice = told(capsys, "t_bsub.fits", "u_bsub.fits")
    assert (once["times_subtracted"], twice["times_subtracted"]) == (1, 2)
    state = {each["code"]: each["state"] for each in twice["checks"]}
    assert state["OFF110"] == "failed"
    assert "more than once" in twice["odd"][0]


def test_an_exposure_that_nothing_was_subtracted_from_is_not_blamed_for_its_sky(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plain.expose(folder / "x_rate.fits", sky(0))
    (found,) = told(capsys, path)
    states = {each["code"]: each["state"] for each in found["checks"]}
    assert states["OFF105"] == states["OFF110"] == "unknown"
    assert set(states.values()) <= {"ok", "unknown"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"S_BKDSUB": "SKIPPED"}, "S_BKDSUB is SKIPPED (4 of 5: COMPLETE)"),
        ({"READPATT": "SLOWR1"}, "readout is SLOWR1, 36 groups (4 of 5: FASTR1, 36 groups)"),
        ({"S_IMPRNT": "COMPLETE"}, "S_IMPRNT is COMPLETE (4 of 5: not there)"),
    ],
)
def test_the_odd_one_of_many_is_marked_and_says_why(
    folder: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], reason: str
) -> None:
    for i in range(5):
        keywords = {"S_BKDSUB": "COMPLETE", **(change if i == 2 else {})}
        plain.expose(folder / f"x{i}_bsub.fits", sky(i), keywords=keywords)
    shown = text(capsys, ".")
    marked = [line for line in shown.splitlines() if line.strip().startswith("!")]
    assert len(marked) == 2
    assert all("x2_bsub.fits" in line for line in marked)
    assert reason in marked[1]
    assert [bool(each["odd"]) for each in told(capsys, ".")] == [i == 2 for i in range(5)]


def test_files_that_are_alike_are_not_odd(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        plain.expose(folder / f"x{i}_rate.fits", sky(i))
    assert "3 files, none odd" in text(capsys, folder)


def test_a_file_that_cannot_be_read_does_not_hide_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain.expose(folder / "good_rate.fits", sky(0))
    (folder / "bad_rate.fits").write_bytes(b"nothing")
    os.mkfifo(folder / "pipe_rate.fits")
    shown = text(capsys, ".", status=1)
    assert "good_rate.fits" in shown
    assert "! bad_rate.fits: " in shown
    assert "FIFO" in shown
    found = told(capsys, ".")
    assert [bool(each["error"]) for each in found] == [True, False, True]


def test_an_empty_folder_and_a_missing_file_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no exposure in this folder" in plain.refused(capsys, "inspect", ".")
    assert plain.run("inspect", "gone_rate.fits") == 1
    assert "gone_rate.fits" in capsys.readouterr().err


def test_json_has_no_nan_and_headers_alone_have_no_checks(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plain.expose(folder / "x_rate.fits", np.full((30, 30), np.nan), OFFLEVEL=None)
    (found,) = told(capsys, path)
    assert {each["state"] for each in found["checks"]} == {"unknown"}
    (found,) = told(capsys, path, "--no-checks")
    assert found["checks"] == []


def test_a_header_of_odd_cards_is_read_as_far_as_it_goes(folder: Path) -> None:
    path = plain.expose(folder / "x_rate.fits", sky(0), keywords={"S_BKDSUB": "COMPLETE"})
    with fits.open(path, mode="update") as hdus:
        header = hdus[0].header
        header["OFFPROF"] = "no such profile"
        header["OFFSIGMA"] = "many"
        header["OFFNBKG"] = 3
        header.add_history("offsky background: " + "long" * 300)
        header["TARGPROP"] = '"><img src=x>'
    found = inspect_file(path)
    assert found.subtraction == "offsky"
    assert found.target == '"><img src=x>'
    assert found.options is not None


def test_a_terminal_does_not_obey_a_header(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plain.expose(folder / "x_rate.fits", sky(0), keywords={"TARGPROP": "X" * 9})
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"X" * 9, b"A\x1b[2J\x07BCD"))
    shown = text(capsys, path)
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_real_exposures_are_told(capsys: pytest.CaptureFixture[str], shared_data: Path) -> None:
    found = told(capsys, shared_data / "miri_4qpm", "--no-checks")
    assert {each["instrument"] for each in found} == {"MIRI"}
    assert {each["subtraction"] for each in found} == {"none"}
    assert not any(each["odd"] for each in found)
