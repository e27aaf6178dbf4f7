"""JSON is JSON; downloads are found by all usual names; integer images lose BLANK."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from plain import expose, pixels, run

import offsky
from offsky.programme.planning import read_plan


def strict(text: str) -> Any:
    """Read JSON as other languages do."""

    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_an_infinite_threshold_is_null_and_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, background = expose(folder / "t_rate.fits", 10), expose(folder / "b_rate.fits", 3)
    assert run("subtract", target, background, "-o", "o.fits", "--sigma", "inf", "--json") == 0
    found = strict(capsys.readouterr().out)
    assert found["options"]["sigma"] is None
    assert found["not_finite"] == {"options.sigma": "inf"}
    outcome = offsky.subtract_file(target, [background], "p.fits")
    assert "not_finite" not in outcome.as_dict()


def test_plan_summary_and_journal_are_json_and_the_plan_is_read_again(folder: Path) -> None:
    expose(folder / "t_rate.fits", 10)
    expose(folder / "b_rate.fits", np.full((6, 8), np.nan), BKGDTARG=True)
    plan = folder / "plan.json"
    assert run("plan", folder, "--from", "dedicated", "--sigma", "inf", "-o", plan) == 0
    strict(plan.read_text())
    read = read_plan(plan)
    assert read is not None
    assert read.products[0].options.sigma == float("inf")
    assert run("run", plan, "-o", folder / "out") == 0
    for path in [path for path in (folder / "out").rglob("*") if path.suffix == ".json"]:
        strict(path.read_text())


@pytest.mark.parametrize("ending", [".fit", ".fit.gz", ".fits"])
def test_folders_of_downloads_are_searched_for_all_endings(folder: Path, ending: str) -> None:
    for name, value, dedicated in (("t", 10, False), ("b", 3, True)):
        (folder / "in" / "JWST" / name).mkdir(parents=True)
        path = expose(folder / "x.fits", value, BKGDTARG=dedicated, EXPOSURE=name)
        content = path.read_bytes()
        if ending.endswith(".gz"):
            import gzip

            content = gzip.compress(content)
        (folder / "in" / "JWST" / name / f"{name}_rate{ending}").write_bytes(content)
    assert run("run", folder / "in", "--from", "dedicated", "-o", folder / "out") == 0
    assert (pixels(folder / "out" / "t_bsub.fits") == 7).all()


def test_an_integer_target_that_becomes_float_loses_blank(folder: Path) -> None:
    target, background = expose(folder / "t_rate.fits", 10), expose(folder / "b_rate.fits", 3)
    with fits.open(target) as hdus:
        data = np.full((6, 8), 10, "i2")
        data[0, 0] = -99
        hdus["SCI"] = fits.ImageHDU(data, name="SCI")
        hdus["SCI"].header.update({"BLANK": -99, "BUNIT": "DN/s"})
        hdus.writeto(folder / "i_rate.fits")
    offsky.subtract_file(folder / "i_rate.fits", [background], "out.fits")
    header = fits.getheader("out.fits", "SCI")
    assert "BLANK" not in header
    assert header["BITPIX"] < 0
    expected = np.full((6, 8), 7.0)
    expected[0, 0] = np.nan
    np.testing.assert_array_equal(pixels("out.fits"), expected)
