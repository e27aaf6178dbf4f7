"""Which backgrounds may be used: each rule, told from headers alone."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from plain import NIRSPEC, expose, in_memory, pixels, refused, run

import offsky
from offsky.options import Options
from offsky.selection.choose import choose_backgrounds
from offsky.selection.suitability import Policy

MRS = {"EXP_TYPE": "MIR_MRS", "FILTER": None, "BAND": "SHORT", "CHANNEL": "12"}
NIRCAM = {"INSTRUME": "NIRCAM", "EXP_TYPE": "NRC_IMAGE", "PUPIL": "CLEAR"}

# Keywords of both, and what the background has instead.
CONFIGURATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "INSTRUME": ({}, "NIRCAM"),
    "DETECTOR": ({}, "MIRIFULONG"),
    "FILTER": ({}, "F2550W"),
    "PUPIL": (NIRCAM, "F162M"),
    "GRATING": (NIRSPEC, "G395H"),
    "BAND": (MRS, "LONG"),
    "CHANNEL": (MRS, "34"),
    "EXP_TYPE": ({}, "MIR_LYOT"),
}


@pytest.mark.parametrize("keyword", CONFIGURATIONS)
def test_another_configuration_is_an_error_and_with_force_a_warning(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    keyword: str,
) -> None:
    common, value = CONFIGURATIONS[keyword]
    target = expose(folder / "t_rate.fits", 10, keywords=common)
    good = expose(folder / "good.fits", 1, keywords=common)
    other = expose(folder / "other.fits", 3, keywords={**common, keyword: value})
    ours = fits.getval(target, keyword)

    line = refused(capsys, "subtract", target, good, other)
    assert line.startswith(f"offsky: other.fits: {keyword} '{value}' ")
    assert f"t_rate.fits's '{ours}'" in line
    assert "--force" in line
    assert not Path("t_bsub.fits").exists()

    assert run("subtract", target, good, other, "--force") == 0
    assert (pixels("t_bsub.fits") == 8).all()
    warned = [r for r in caplog.records if f"{keyword} '{value}'" in r.getMessage()]
    assert [record.levelname for record in warned] == ["WARNING"]
    assert warned[0].getMessage().startswith("other.fits  used")


def test_values_are_compared_without_blanks_and_case_and_only_where_both_are_known(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = expose(folder / "t.fits", 10, BAND="SHORT")
    same = expose(folder / "same.fits", 1, FILTER=" f770w", DETECTOR=None, BUNIT=None)
    offsky.subtract_file(target, [same], "r.fits")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


FAMILIES = [
    ("MIR_LRS-SLITLESS", "MIR_LRS-FIXEDSLIT"),
    ("NRC_IMAGE", "NRC_TSIMAGE"),
    ("NRC_TSGRISM", "NRC_WFSS"),
    ("NRS_FIXEDSLIT", "NRS_BRIGHTOBJ"),
]


@pytest.mark.parametrize(("one", "other"), [*FAMILIES, *(pair[::-1] for pair in FAMILIES)])
def test_exposure_types_of_one_family_go_together(folder: Path, one: str, other: str) -> None:
    target = expose(folder / "t.fits", 10, EXP_TYPE=one)
    background = expose(folder / "b.fits", 1, EXP_TYPE=other)
    assert offsky.subtract_file(target, [background], "r.fits").status == "COMPLETE"


@pytest.mark.parametrize("policy", [Policy(), Policy(force=True), Policy(True, True)])
def test_another_unit_is_always_an_error(policy: Policy) -> None:
    target, background = in_memory("t", unit="DN/s"), in_memory("b", unit="MJy/sr")
    with pytest.raises(offsky.ExposureMismatchError, match=r"^b: unit 'MJy/sr' differs .* 'DN/s'"):
        choose_backgrounds(target, [background], policy=policy, options=Options())


@pytest.mark.parametrize("units", [("DN/s", None), (None, "DN/s"), (None, None)])
def test_an_unknown_unit_is_none_that_differs(folder: Path, units: tuple[Any, Any]) -> None:
    target = expose(folder / "t.fits", 10, BUNIT=units[0])
    background = expose(folder / "b.fits", 1, BUNIT=units[1])
    assert run("subtract", target, background) == 0


@pytest.mark.parametrize(
    "different",
    [
        {"readpatt": ("FASTR1", "SLOWR1")},
        {"exposure_time": (100.0, 99.0)},
        {"ngroups": (36, 12)},
        {"readpatt": ("A", "B"), "exposure_time": (1.0, 2.0), "ngroups": (3, 4)},
    ],
)
def test_another_readout_is_a_warning(
    different: dict[str, tuple[Any, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    keywords = {"readpatt": "READPATT", "exposure_time": "EFFEXPTM", "ngroups": "NGROUPS"}
    target = in_memory("t", **{name: pair[0] for name, pair in different.items()})
    background = in_memory("b", **{name: pair[1] for name, pair in different.items()})
    choice = choose_backgrounds(target, [background], policy=Policy(), options=Options())
    expected = [f"{keywords[k]} {theirs} (not {ours})" for k, (ours, theirs) in different.items()]
    assert choice.verdicts[0].fate == "used"
    assert choice.verdicts[0].remarks == tuple(expected)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_the_log_has_a_table_of_all_backgrounds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    target = in_memory("t", ngroups=5)
    backgrounds = [in_memory("one", ngroups=5), in_memory("longer", ngroups=6)]
    choose_backgrounds(target, backgrounds, policy=Policy(), options=Options(sigma=1.0))
    assert [(r.levelname, r.getMessage().rstrip()) for r in caplog.records] == [
        ("INFO", "one     used"),
        ("WARNING", "longer  used     NGROUPS 6 (not 5)"),
    ]


# The same exposure again


def linked(path: Path, name: str) -> Path:
    (path.parent / name).symlink_to(path)
    return path.parent / name


def hard_linked(path: Path, name: str) -> Path:
    (path.parent / name).hardlink_to(path)
    return path.parent / name


def copied(path: Path, name: str) -> Path:
    return Path(shutil.copy(path, path.parent / name))


WAYS = {
    "itself": lambda path, name: path,
    "another spelling": lambda path, name: path.parent / "." / ".." / path.parent.name / path.name,
    "a link": linked,
    "a hard link": hard_linked,
    "a copy": copied,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_target_among_its_backgrounds_is_an_error_and_with_force_a_warning(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    way: str,
) -> None:
    target = expose(folder / "t_rate.fits", 10)
    again = WAYS[way](target, "again.fits")
    other = expose(folder / "b.fits", 2)
    line = refused(capsys, "subtract", target, other, again)
    # A copy is known by programme, visit, ..., exposure and detector.
    expected = (
        "the target's own exposure by its header" if way == "a copy" else "the target itself"
    )
    assert line.startswith(f"offsky: {again.name}: is {expected}")
    assert run("subtract", target, other, again, "--force") == 0
    assert (pixels("t_bsub.fits") == 4).all()
    assert f"is {expected}" in caplog.text


@pytest.mark.parametrize("way", [way for way in WAYS if way != "a copy"])
def test_a_background_named_twice_is_an_error_and_with_force_a_warning(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    way: str,
) -> None:
    target = expose(folder / "t_rate.fits", 10)
    first, other = expose(folder / "first.fits", 1), expose(folder / "b.fits", 4)
    again = WAYS[way](first, "again.fits")
    line = refused(capsys, "subtract", target, first, other, again)
    assert line.startswith(f"offsky: {again.name}: is named twice")
    assert run("subtract", target, first, other, again, "--force") == 0
    assert (pixels("t_bsub.fits") == 8).all()
    assert caplog.text.count("is named twice") == 1


def test_models_given_twice_are_known_too(folder: Path) -> None:
    from stdatamodels.jwst import datamodels

    target = expose(folder / "t.fits", 10)
    with ExitStack() as stack:
        model = stack.enter_context(datamodels.open(target))
        other = stack.enter_context(datamodels.open(expose(folder / "b.fits", 2)))
        with pytest.raises(offsky.ExposureMismatchError, match="is the target itself"):
            offsky.subtract(model, [other, model])
        with pytest.raises(offsky.ExposureMismatchError, match="the target's own exposure"):
            offsky.subtract(model, [other, target])
        with pytest.raises(offsky.ExposureMismatchError, match="is named twice"):
            offsky.subtract(model, [other, other])
        result = stack.enter_context(offsky.subtract(model, [other, other], force=True))
        assert (result.data == 8).all()


def test_a_target_subtracted_before_is_an_error_and_with_force_a_warning(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    background = expose(folder / "b.fits", 1)
    assert run("subtract", expose(folder / "t_rate.fits", 10), background) == 0
    done = "t_bsub.fits"
    line = refused(capsys, "subtract", done, background, "-o", "again.fits")
    assert line.startswith("offsky: t_bsub.fits: its background has been subtracted already")
    assert run("subtract", done, background, "-o", "again.fits", "--force") == 0
    assert (pixels("again.fits") == 8).all()
    assert "subtracted already" in caplog.text
    # Once each in the header: keywords are those of the last run, the history is of both.
    header = fits.getheader("again.fits")
    assert header.count("OFFNBKG") == 1
    assert list(header["HISTORY"]) == ["offsky background: b.fits"] * 2


@pytest.mark.parametrize("status", ["SKIPPED", "FAILED", None])
def test_a_target_skipped_before_may_be_subtracted(folder: Path, status: str | None) -> None:
    target = expose(folder / "t_rate.fits", 10, S_BKDSUB=status)
    assert run("subtract", target, expose(folder / "b.fits", 1)) == 0
    assert fits.getval("t_bsub.fits", "S_BKDSUB") == "COMPLETE"


def test_a_target_without_flags_is_refused_as_file_and_as_model(folder: Path) -> None:
    from stdatamodels.jwst import datamodels

    bare = expose(folder / "bare.fits", 10)
    with fits.open(bare, mode="update") as hdus:
        del hdus["DQ"]
    background = expose(folder / "b.fits", 1)
    with pytest.raises(offsky.ExposureError, match=r"^bare\.fits: no DQ image"):
        offsky.subtract_file(bare, [background], "r.fits")
    with (
        datamodels.open(bare) as model,
        pytest.raises(offsky.ExposureError, match=r"^bare\.fits: no DQ image"),
    ):
        offsky.subtract(model, [background])
