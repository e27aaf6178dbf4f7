"""What products say of their making, and that it is kept by whoever saves them again."""

import re
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from plain import expose, pixels, run

import offsky
from offsky.io.cards import STATUS_KEYWORD, Provenance
from offsky.io.fits_average import INPUTS_EXTENSION, KEPT_EXTENSION
from offsky.options import Options
from offsky.testing import write_exposure
from offsky.values.metadata import KEYWORDS, MODEL_PATHS

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "products.md"
OUR_KEYWORDS = [key for key, _, _ in Provenance((), Options()).cards()]

SHAPE = (7, 9)


@pytest.fixture
def files(folder: Path) -> list[Path]:
    """A target as the pipeline writes it and twelve backgrounds; one sample is to be clipped."""
    paths = [write_exposure(folder / "target_rate.fits", sci=np.full(SHAPE, 10.0, "f4"))]
    for i in range(12):
        sci = np.full(SHAPE, 1.0 + 0.01 * i, dtype=np.float32)
        sci[0, 0] = np.nan
        sci[3, 4] += 1000.0 * (i == 5)
        paths.append(expose(folder / f"sky{i}_rate.fits", sci))
    return paths


# The keywords


def test_each_keyword_is_short_and_explained() -> None:
    assert len(set(OUR_KEYWORDS)) == len(OUR_KEYWORDS) > 5
    for key, _, comment in Provenance((), Options()).cards():
        assert re.fullmatch("OFF[A-Z0-9]{1,5}", key)
        assert comment


def test_each_keyword_is_documented_and_none_that_is_not_written() -> None:
    if not DOCUMENT.exists():
        pytest.skip("the documents are not installed beside the tests")
    subtracted = DOCUMENT.read_text(encoding="utf-8").partition("## The combined")[0]
    documented = re.findall(r"^\| `(\w+)` \|", subtracted, flags=re.MULTILINE)
    # With an average beside the product there is one more.
    cards = Provenance((), Options(), pair="r0123456789abcdef").cards()
    assert documented == [STATUS_KEYWORD, *(key for key, _, _ in cards), "HISTORY"]


def test_no_keyword_or_extension_is_of_the_keyword_dictionary() -> None:
    import stdatamodels.jwst.datamodels as package

    known: dict[str, set[str]] = {"fits_keyword": set(), "fits_hdu": set()}
    schemas = list((Path(package.__file__).parent / "schemas").rglob("*.yaml"))
    for schema in schemas:
        text = schema.read_text(encoding="utf-8")
        for kind, names in known.items():
            names.update(re.findall(rf"\b{kind}:\s*['\"]?([\w-]+)", text))
    assert len(schemas) > 50
    assert {"S_BKDSUB", "SUBSTRT1"} <= known["fits_keyword"]
    assert not known["fits_keyword"] & set(OUR_KEYWORDS)
    assert not known["fits_hdu"] & {KEPT_EXTENSION, INPUTS_EXTENSION}


@pytest.mark.parametrize("name", KEYWORDS)
def test_each_fact_has_the_place_that_the_schemas_give_it(name: str) -> None:
    from stdatamodels.jwst import datamodels

    # Files are read by keyword and models by path: both must mean the same.
    with datamodels.SlitModel() as model:
        assert f"meta.{MODEL_PATHS[name]}" in model.find_fits_keyword(KEYWORDS[name])


def test_a_header_holds_every_value_whole(files: list[Path]) -> None:
    # A comment cut short would be a warning, which is an error here.
    outcome = offsky.subtract_file(files[0], files[1:], "r.fits", sigma=2.9999999999999996)
    header = fits.getheader("r.fits")
    cards = {key: (header[key], header.comments[key]) for key in OUR_KEYWORDS}
    assert cards == {
        "OFFVER": (offsky.__version__, "offsky version that averaged the background"),
        "OFFNBKG": (12, "backgrounds averaged"),
        "OFFPROF": ("jwst", "set of options, but for those named here"),
        "OFFSIGMA": (2.9999999999999996, "clipping threshold [standard deviations]"),
        "OFFMAXIT": (-1, "clipping passes at most (-1: no limit)"),
        "OFFNREJ": (1, "samples clipped"),
        "OFFNUNCV": (1, "pixels without background"),
        "OFFLEVEL": (outcome.median_level, "median of the averaged background"),
    }
    assert outcome.median_level == pytest.approx(1.055)
    assert list(header["HISTORY"]) == [f"offsky background: sky{i}_rate.fits" for i in range(12)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--sigma", "2.5", "--maxiters", "0"], (2.5, 0)),
        (["--maxiters", "3"], (3.0, 3)),
        # FITS has no infinity.
        (["--sigma", "inf"], ("N/A", -1)),
    ],
)
def test_the_parameters_are_recorded(
    folder: Path, options: list[str], expected: tuple[Any, int]
) -> None:
    target, background = expose(folder / "t_rate.fits", 10), expose(folder / "b.fits", 1)
    assert run("subtract", target, background, "--save-combined", *options) == 0
    for name in ("t_bsub.fits", "t_combinedbackground.fits"):
        header = fits.getheader(name)
        assert (header["OFFSIGMA"], header["OFFMAXIT"]) == expected


@pytest.mark.parametrize("level", [None, np.nan, np.inf, -np.inf])
def test_a_level_that_is_no_number_is_said_to_be_none(level: float | None) -> None:
    header = fits.Header(
        [fits.Card(*card) for card in Provenance((), Options(), median_level=level).cards()]
    )
    assert header["OFFLEVEL"] == "N/A"


def test_a_skipped_target_tells_of_no_average(folder: Path) -> None:
    outcome = offsky.subtract_file(expose(folder / "t.fits", 10), [], "r.fits")
    assert outcome.status == fits.getval("r.fits", STATUS_KEYWORD) == "SKIPPED"
    header = fits.getheader("r.fits")
    assert not any(key in header for key in (*OUR_KEYWORDS, "HISTORY"))


def told(model: Any, path: str) -> tuple[dict[str, Any], list[str]]:
    """Return our keywords as a model holds them, and the history of its file."""
    cards = model.extra_fits.PRIMARY.instance["header"]
    history = [str(line) for line in fits.getheader(path)["HISTORY"]]
    return {card[0]: card[1] for card in cards if card[0].startswith("OFF")}, history


@pytest.mark.parametrize("made", ["file", "model", "infinite"])
def test_a_model_saved_again_and_again_loses_nothing(files: list[Path], made: str) -> None:
    from stdatamodels.jwst import datamodels

    # The last one has a number that no card can hold. A card without a value could not be saved.
    backgrounds = files[1:]
    sigma = float("inf") if made == "infinite" else 3.0
    if made == "model":
        with offsky.subtract(files[0], backgrounds) as result:
            result.save("save0.fits")
    else:
        offsky.subtract_file(files[0], backgrounds, "save0.fits", sigma=sigma)
    seen = []
    for before, after in pairwise([f"save{i}.fits" for i in range(4)]):
        # What does not keep to the schemas is a warning, and so an error.
        with datamodels.open(before) as model:
            assert type(model) is datamodels.ImageModel
            model.validate()
            seen.append(
                (*told(model, before), model.meta.cal_step.bkg_subtract, model.data.tobytes())
            )
            model.save(after)
    assert seen[0][2] == "COMPLETE"
    assert seen[0][0]["OFFNBKG"] == len(backgrounds)
    assert seen[0][1] == [f"offsky background: {path.name}" for path in backgrounds]
    assert str(seen[1:]) == str(seen[:-1])
    first, last = fits.getheader("save0.fits"), fits.getheader("save3.fits")
    for key in OUR_KEYWORDS:
        assert str(last[key]) == str(first[key])
        assert last.comments[key] == first.comments[key]


def test_real_results_saved_again_lose_nothing(shared_data: Path, folder: Path) -> None:
    from stdatamodels.jwst import datamodels

    first, *others = sorted((shared_data / "miri_4qpm").glob("jw01277022001*.fits"))
    offsky.subtract_file(first, others, "r.fits", combined_path="c.fits")
    for name in ("r.fits", "c.fits"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such files do not keep to today's schemas
            with datamodels.open(name) as model:
                before = told(model, name)
                model.save("again.fits")
            with datamodels.open("again.fits") as model:
                assert told(model, "again.fits") == before
    assert before[1] == [f"offsky background: {others[0].name}"]
    np.testing.assert_array_equal(pixels("again.fits", "N_KEPT"), pixels("c.fits", "N_KEPT"))
    # Cropped like the others, it goes with them again.
    assert offsky.subtract_file(first, ["c.fits"], "r2.fits").status == "COMPLETE"
    np.testing.assert_array_equal(pixels("r2.fits"), pixels("r.fits"))
