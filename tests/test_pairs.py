"""Dithers too close, pairs in time, readouts, and what makes a pattern: from bare headers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from programmes import expose, offsky_command
from test_nods import IFU, LRS, SLIT, exposures, nods, reasons, used

from offsky.errors import ParameterError
from offsky.selection.close import warn_of_close
from offsky.selection.examined import Examined, Paired
from offsky.selection.pairing import Pairing
from offsky.selection.rules import choose_dedicated, choose_others
from offsky.selection.suitability import Policy
from offsky.values.fwhm import point_fwhm
from offsky.values.metadata import Metadata

IMAGE = replace(LRS, exp_type="MIR_IMAGE", filter="F770W", pattern_type="CYCLING")


def dithers(*arcsec: float, base: Metadata = IMAGE, **facts: Any) -> list[Examined]:
    """Return exposures of one pattern, pointed so far from its middle."""
    return exposures(
        base,
        *({"ra_ref": 150.0, "dec_ref": 2.0 + each / 3600, **facts} for each in arcsec),
    )


def chosen(given: list[Examined], **options: Any) -> list[Paired]:
    """Return what a rule gives each target."""
    pairing = Pairing(**{"source": "dithers", **options})
    rule = choose_dedicated if pairing.source == "dedicated" else choose_others
    return rule(given, pairing, Policy())


def warnings_of(given: list[Examined], **options: Any) -> list[str]:
    return list(warn_of_close({each.path: each for each in given}, chosen(given, **options)))


@pytest.mark.parametrize(
    ("facts", "fwhm"),
    [
        ({"instrument": "MIRI", "filter": "F770W"}, 0.269),
        ({"instrument": "MIRI", "filter": "F1140C"}, 0.0317 * 11.4),
        ({"instrument": "NIRCAM", "filter": "F444W", "pupil": "CLEAR"}, 0.145),
        ({"instrument": "NIRCAM", "filter": "F444W", "pupil": "F405N"}, 0.0317 * 4.05),
        ({"instrument": "NIRISS", "filter": "CLEAR", "pupil": "F150W"}, 0.0317 * 1.5),
        ({"instrument": "NIRSPEC", "filter": "F290LP"}, None),
        ({"instrument": "MIRI", "filter": "P750L"}, None),
        ({}, None),
    ],
)
def test_the_width_of_a_source_is_measured_or_that_of_diffraction(
    facts: dict[str, str], fwhm: float | None
) -> None:
    assert point_fwhm(Metadata(**facts)) == (None if fwhm is None else pytest.approx(fwhm))


def test_a_least_separation_in_fwhm_is_that_of_the_targets_filter() -> None:
    found = chosen(dithers(0.0, 0.3, 0.5), min_separation="1.5 FWHM")
    assert used(found) == {"1": "3", "2": "", "3": "1"}
    assert reasons(found[0]) == {"2": '0.3" from the target, less than 1.5 FWHM (0.404")'}
    with pytest.raises(ParameterError, match="no width of a point source"):
        chosen(dithers(0.0, 0.3, base=replace(IMAGE, filter="P750L")), min_separation="1fwhm")


@pytest.mark.parametrize("wrong", ["fwhm", "-1fwhm", "1 arcsec", -1.0, float("nan"), ".fwhm"])
def test_a_least_separation_that_is_neither_is_refused(wrong: Any) -> None:
    with pytest.raises(ParameterError, match=r"arcsec or as in '1\.5fwhm'"):
        Pairing(source="dithers", min_separation=wrong)


def test_dithers_within_one_fwhm_are_warned_of_with_what_would_be_left() -> None:
    (warning,) = warnings_of(dithers(0.0, 0.1, 5.0))
    assert warning == (
        "MIRI F770W, observation 001, visit group 02: 2 of 6 pairs of target and background lie "
        'within one FWHM (0.269"), the nearest 0.1" apart: a source is subtracted from itself; '
        "--min-separation 1fwhm leaves them out"
    )
    (nothing,) = warnings_of(dithers(0.0, 0.1))
    assert "leaves nothing for 2 of 2 targets" in nothing
    assert warnings_of(dithers(0.0, 0.1, 5.0), min_separation="1fwhm") == []
    assert warnings_of(dithers(0.0, 5.0, 10.0)) == []
    assert warnings_of(dithers(0.0, 0.1, base=replace(IMAGE, filter="P750L"))) == []


def test_on_a_moving_target_only_offsets_tell_how_close_dithers_are() -> None:
    still = {"target_type": "MOVING", "y_offset": 0.0}
    given = exposures(
        IMAGE,
        {**still, "x_offset": 0.0, "ra_ref": 1.0, "dec_ref": 1.0},
        {**still, "x_offset": 0.1, "ra_ref": 2.0, "dec_ref": 1.0},
    )
    assert len(warnings_of(given)) == 1
    assert warnings_of(exposures(IMAGE, {}, {})) == []


def test_pairs_are_made_in_time_between_the_two_positions() -> None:
    order = [(1, 4.0), (1, 1.0), (2, 3.0), (2, 2.0), (1, 9.0)]
    given = exposures(LRS, *({"pattern_number": n, "mid_time": 60000 + t} for n, t in order))
    found = chosen(given, source="nods", pair=True)
    assert used(found) == {"1": "3", "2": "4", "3": "1", "4": "2", "5": ""}
    assert reasons(found[0]) == {
        "2": "same nod as the target: PATT_NUM 1",
        "4": "paired with 3 (--pair)",
        "5": "same nod as the target: PATT_NUM 1",
    }
    assert "number 3 in time, and no number 3 to pair it with" in str(found[4].skipped)


def test_pairs_need_two_positions_and_times() -> None:
    for found in chosen(nods(IFU, 1, 2, 3), source="nods", pair=True):
        assert "3 positions where --pair needs two" in str(found.skipped)
    given = exposures(IMAGE, {"pattern_number": 1}, {"pattern_number": 2}, {})
    found = chosen(given, pair=True)
    assert used(found) == {"1": "2", "2": "1", "3": ""}
    assert "does not say its position (PATT_NUM)" in str(found[2].skipped)
    with pytest.raises(ParameterError, match="which --pair needs"):
        chosen(nods(IFU, 1, 2, mid_time=None), source="nods", pair=True)


def test_the_kth_target_is_paired_with_the_kth_dedicated_background() -> None:
    times = [(False, 5.0), (False, 1.0), (True, 2.0), (True, 6.0), (True, 7.0)]
    given = exposures(IMAGE, *({"bkgdtarg": b, "mid_time": 60000 + t} for b, t in times))
    found = chosen(given, source="dedicated", pair=True)
    assert used(found) == {"1": "4", "2": "3"}
    assert reasons(found[0]) == dict.fromkeys(["3", "5"], "paired with 4 (--pair)")


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        ({"readpatt": "SLOWR1"}, "READPATT SLOWR1 (not FASTR1)"),
        ({"ngroups": 20}, "NGROUPS 20 (not 10)"),
        ({"integration_time": 60.5}, "EFFINTTM 60.5 (not 27.7)"),
    ],
)
def test_backgrounds_that_were_read_out_otherwise_are_dropped_where_asked_for(
    fact: dict[str, Any], reason: str
) -> None:
    readout = {"readpatt": "FASTR1", "ngroups": 10, "integration_time": 27.7}
    given = exposures(IMAGE, readout, {**readout, "exposure_time": 9.0}, {**readout, **fact}, {})
    found = chosen(given, match_readout=True)
    assert used(found)["1"] == "2 4"
    assert reasons(found[0]) == {"3": f"read out otherwise: {reason}"}
    assert used(chosen(given))["1"] == "2 3 4"


def test_keywords_replace_or_add_to_what_makes_a_pattern() -> None:
    given = exposures(
        IMAGE,
        {"proposed_target": "A"},
        {"proposed_target": "A", "observation": "002"},
        {"proposed_target": "B"},
        {"proposed_target": "b ", "visit_group": "03"},
        {"proposed_target": None},
    )
    assert used(chosen(given)) == {"1": "3 5", "2": "", "3": "1 5", "4": "", "5": "1 3"}
    replaced = chosen(given, group_by="targprop")
    assert used(replaced) == {"1": "2", "2": "1", "3": "4", "4": "3", "5": ""}
    assert replaced[4].skipped == "its header does not say its pattern (TARGPROP)"
    added = chosen([*given, *dithers(0.0, proposed_target="A")][1:], group_by="+TARGPROP")
    assert used(added)["1"] == ""
    both = chosen(given, group_by="PROGRAM, FILTER")
    assert used(both)["1"] == "2 3 4 5"


def test_nods_agree_in_their_slit_whatever_the_keywords_of_a_pattern() -> None:
    given = exposures(
        SLIT,
        {"pattern_number": 1},
        {"pattern_number": 2, "visit_group": "09"},
        {"pattern_number": 3, "fixed_slit": "S400A1"},
    )
    found = chosen(given, source="nods", group_by="PROGRAM,OBSERVTN")
    assert used(found) == {"1": "2", "2": "1", "3": ""}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_by": "COLOUR"}, "group_by has 'COLOUR': expected keywords such as PROGRAM"),
        ({"group_by": ""}, "group_by has ''"),
        ({"source": "dedicated", "group_by": "PROGRAM"}, "--group-by is for products from nods"),
        ({"source": "associations", "pair": True}, "--pair is for products from"),
        ({"pair": True, "nearest": 2}, "give one of them"),
        ({"pair": True, "add_dedicated": True}, "give one of them"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Pairing(**{"source": "dithers", **options})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "n"),
    [
        (("--min-separation", "1.5fwhm"), [1, 1, 2]),
        (("--min-separation", "0.3"), [1, 1, 2]),
        (("--pair",), [1, 0, 1]),
        (("--match-readout",), [1, 1, 0]),
        (("--group-by", "+NGROUPS"), [1, 1, 0]),
        (("--group-by", "PROGRAM"), [2, 2, 2]),
    ],
)
def test_the_commands_take_what_a_pairing_takes(
    folder: Path, said: tuple[str, ...], n: list[int]
) -> None:
    (folder / "in").mkdir()
    for number, (arcsec, position) in enumerate(((0.0, 1), (0.1, 1), (5.0, 2)), start=1):
        expose(
            folder / "in", number, arcsec=arcsec, days=number / 24,
            meta__dither__position_number=position, meta__exposure__ngroups=10 * position,
        )  # fmt: skip
    done = offsky_command("plan", "in", "--from", "dithers", *said, "-o", "plan.json")
    assert done.returncode == 0, done.stderr
    planned = json.loads((folder / "plan.json").read_text())
    assert [len(each["backgrounds"]) for each in planned["products"]] == n
    done = offsky_command("run", "in", "--from", "dithers", *said, "-o", "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_complete"] == sum(each > 0 for each in n)


def test_the_real_dithers_of_a_star_are_warned_of(shared_data: Path, caplog: Any) -> None:
    from offsky.options import Options
    from offsky.programme.planning import make_plan

    make_plan([shared_data / "miri_4qpm"], pairing=Pairing(source="dithers"), options=Options())
    (warning,) = [each for each in caplog.messages if "within one FWHM" in each]
    assert "20 of 20 pairs" in warning
    assert "leaves nothing for 5 of 5 targets" in warning
