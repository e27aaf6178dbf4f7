"""Nods: which exposures may be each other's background, mode by mode, from bare headers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offsky.errors import ParameterError
from offsky.selection.examined import Examined, Paired, dropped_files
from offsky.selection.pairing import Pairing
from offsky.selection.placing import Placement
from offsky.selection.rules import choose_dedicated, choose_others
from offsky.selection.suitability import Candidate, Policy
from offsky.values.metadata import Metadata

NODS = Pairing(source="nods")

NIRSPEC = Metadata(
    instrument="NIRSPEC",
    detector="NRS1",
    filter="F290LP",
    grating="G395H",
    program="01234",
    observation="001",
    visit="001",
    visit_group="02",
    sequence="1",
    activity="01",
    proposed_target="STAR",
    xstart=1,
    ystart=1,
    xsize=16,
    ysize=24,
    unit="DN/s",
    mid_time=60000.0,
)
SLIT = replace(
    NIRSPEC,
    exp_type="NRS_FIXEDSLIT",
    pattern_type="3-POINT-NOD",
    fixed_slit="S200A1",
    subarray="SUBS200A1",
    n_positions=3,
    n_subpixel=1,
)
# As the observatory writes a real nod of shutters: no pattern, no subpixel points.
SHUTTERS = replace(
    NIRSPEC, exp_type="NRS_MSASPEC", pattern_type="NONE", n_positions=3, msa_file="jw_01_msa.fits"
)
IFU = replace(NIRSPEC, exp_type="NRS_IFU", pattern_type="4-POINT-NOD", n_positions=4)
LRS = replace(
    NIRSPEC,
    instrument="MIRI",
    detector="MIRIMAGE",
    filter="P750L",
    grating=None,
    exp_type="MIR_LRS-FIXEDSLIT",
    pattern_type="ALONG-SLIT-NOD",
    n_positions=2,
)


def exposures(base: Metadata, *facts: dict[str, Any]) -> list[Examined]:
    """Return exposures named by their place, each with some facts of its own."""
    return [
        Examined(
            f"/x/{i}", Candidate(Placement(str(i), (24, 16), replace(each, exposure=str(i))), i)
        )
        for i, each in enumerate((replace(base, **own) for own in facts), start=1)
    ]


def nods(base: Metadata, *numbers: int, **facts: Any) -> list[Examined]:
    """Return exposures at these numbers of a pattern."""
    return exposures(base, *({"pattern_number": number, **facts} for number in numbers))


def used(found: list[Paired]) -> dict[str, str]:
    """Return the names of each target's backgrounds, one after the other."""
    return {
        Path(each.target).name: " ".join(Path(path).name for path in each.backgrounds)
        for each in found
    }


def reasons(paired: Paired) -> dict[str, str]:
    """Return why each background of a target was dropped."""
    return {Path(path).name: why for why, paths in dropped_files(paired) for path in paths}


@pytest.mark.parametrize("base", [SLIT, SHUTTERS, IFU, LRS])
def test_an_exposure_at_the_same_nod_is_no_background_and_that_is_its_reason(
    base: Metadata,
) -> None:
    found = choose_others(nods(base, 1, 2, 1, 2), NODS, Policy())
    assert used(found) == {"1": "2 4", "2": "1 3", "3": "2 4", "4": "1 3"}
    assert reasons(found[1]) == {"4": "same nod as the target: PATT_NUM 2"}
    assert [each.pattern for each in found] == [0] * 4


def test_subpixel_dithers_of_one_nod_are_no_backgrounds() -> None:
    slit = replace(SLIT, n_positions=4, n_subpixel=2)
    found = choose_others(nods(slit, 1, 2, 3, 4), NODS, Policy())
    assert used(found) == {"1": "3 4", "2": "3 4", "3": "1 2", "4": "1 2"}
    assert reasons(found[3]) == {"3": "same nod as the target: PATT_NUM 3 to 4"}


@pytest.mark.parametrize("n_subpixel", [None, 0, 1])
def test_without_subpixel_points_each_number_is_a_nod(n_subpixel: int | None) -> None:
    found = choose_others(nods(replace(SLIT, n_subpixel=n_subpixel), 1, 2, 3), NODS, Policy())
    assert used(found) == {"1": "2 3", "2": "1 3", "3": "1 2"}


def test_of_five_points_in_the_wide_slit_the_neighbours_overlap() -> None:
    wide = replace(SLIT, fixed_slit="S1600A1", n_positions=5)
    found = choose_others(nods(wide, 1, 2, 3, 4, 5), NODS, Policy())
    assert used(found) == {"1": "3 4 5", "2": "4 5", "3": "1 5", "4": "1 2", "5": "1 2 3"}
    assert reasons(found[0]) == {
        "2": "next to the target's nod in S1600A1, sources overlap: PATT_NUM 2"
    }
    narrow = choose_others(nods(replace(SLIT, n_positions=5), 1, 2, 3, 4, 5), NODS, Policy())
    assert used(narrow)["3"] == "1 2 4 5"
    # Of ten numbers two each are a nod: the neighbours are four numbers away.
    subpixel = replace(wide, n_positions=10, n_subpixel=2)
    found = choose_others(nods(subpixel, *range(1, 11)), NODS, Policy())
    assert used(found)["5"] == "1 2 9 10"
    assert set(reasons(found[4])) == {"3", "4", "6", "7", "8"}


@pytest.mark.parametrize(
    ("base", "fact"),
    [
        (SLIT, {"fixed_slit": "S400A1"}),
        (SLIT, {"subarray": "FULL"}),
        (SLIT, {"proposed_target": "OTHER"}),
        (SLIT, {"n_positions": 5}),
        (SLIT, {"n_subpixel": 2}),
        (SLIT, {"activity": "02"}),
        (SLIT, {"visit_group": "03"}),
        (SHUTTERS, {"proposed_target": "OTHER"}),
        (SHUTTERS, {"msa_file": "jw_02_msa.fits"}),
        (SHUTTERS, {"activity": "02"}),
        (IFU, {"pattern_type": "2-POINT-NOD"}),
        (IFU, {"visit": "002"}),
        (IFU, {"visit_group": "03"}),
        (LRS, {"observation": "002"}),
        (LRS, {"program": "05678"}),
        (IFU, {"grating": "G235H"}),
    ],
)
def test_nods_that_differ_in_what_must_agree_are_of_another_pattern(
    base: Metadata, fact: dict[str, Any]
) -> None:
    both = exposures(base, {"pattern_number": 1}, {"pattern_number": 2, **fact})
    found = choose_others(both, NODS, Policy())
    assert [each.skipped for each in found] == ["alone in its pattern"] * 2


@pytest.mark.parametrize(
    ("base", "fact"),
    [
        (IFU, {"proposed_target": "OTHER"}),
        (LRS, {"proposed_target": "OTHER", "visit_group": "03", "activity": "05"}),
        (SHUTTERS, {"pattern_type": None, "target_name": "NAMED"}),
        (SLIT, {"pattern_type": "2-POINT-NOD", "visit": "002"}),
    ],
)
def test_nods_may_differ_in_anything_else(base: Metadata, fact: dict[str, Any]) -> None:
    both = exposures(base, {"pattern_number": 1}, {"pattern_number": 2, **fact})
    assert used(choose_others(both, NODS, Policy())) == {"1": "2", "2": "1"}


@pytest.mark.parametrize(
    ("base", "pattern"),
    [
        (replace(LRS, exp_type="MIR_IMAGE"), "4-POINT-SETS"),
        (replace(LRS, exp_type="MIR_LRS-SLITLESS"), "ALONG-SLIT-NOD"),
        (LRS, "MAPPING"),
        (IFU, "CYCLING"),
        (IFU, None),
        (replace(SLIT, exp_type=None), "3-POINT-NOD"),
    ],
)
def test_what_is_no_nod_is_skipped_with_its_pattern_named(
    base: Metadata, pattern: str | None
) -> None:
    (first, _) = choose_others(nods(replace(base, pattern_type=pattern), 1, 2), NODS, Policy())
    assert first.skipped is not None
    assert f"PATTTYPE {pattern or 'not given'}" in first.skipped
    assert f"EXP_TYPE {base.exp_type or 'not given'}" in first.skipped
    assert "--from dithers" in first.skipped


def test_an_exposure_that_does_not_say_its_nod_is_neither_target_nor_background() -> None:
    three = exposures(SLIT, {"pattern_number": 1}, {"pattern_number": 2}, {})
    found = choose_others(three, NODS, Policy())
    assert used(found) == {"1": "2", "2": "1", "3": ""}
    assert found[2].skipped == "its header does not say which nod it is (PATT_NUM)"


def test_a_pattern_with_one_nod_only_says_so_for_each_target() -> None:
    found = choose_others(nods(SLIT, 2, 2), NODS, Policy())
    assert {each.skipped for each in found} == {
        "0 of 1 backgrounds left, fewer than 1 (1 dropped: same nod as the target: PATT_NUM 2)"
    }


def test_segments_of_one_exposure_are_no_backgrounds_of_each_other() -> None:
    cut = [
        {"pattern_number": 1, "segment": 1},
        {"pattern_number": 1, "segment": 2},
        {"pattern_number": 2, "segment": 1},
    ]
    given = exposures(IFU, *cut)
    given[1] = Examined(
        "/x/2",
        Candidate(Placement("2", (24, 16), replace(given[1].metadata, exposure="1")), 2),
    )
    found = choose_others(given, NODS, Policy())
    assert used(found) == {"1": "3", "2": "3", "3": "1 2"}
    assert reasons(found[0]) == {"2": "another segment of the target's own exposure (EXSEGNUM)"}


def test_dedicated_backgrounds_join_the_nods_only_where_asked_for() -> None:
    given = exposures(
        IFU,
        {"pattern_number": 1},
        {"pattern_number": 2},
        {"pattern_number": 1, "bkgdtarg": True, "observation": "002"},
        {"pattern_number": 1, "bkgdtarg": True, "is_imprint": True},
        {"pattern_number": 1, "bkgdtarg": True, "program": "05678"},
    )
    assert used(choose_others(given, NODS, Policy())) == {"1": "2", "2": "1"}
    more = Pairing(source="nods", add_dedicated=True)
    found = choose_others(given, more, Policy())
    assert used(found) == {"1": "2 3", "2": "1 3"}
    every = Pairing(source="nods", add_dedicated=True, any_programme=True)
    assert used(choose_others(given, every, Policy())) == {"1": "2 3 5", "2": "1 3 5"}


def test_dedicated_backgrounds_are_of_the_same_programme_unless_any_will_do() -> None:
    image = replace(LRS, exp_type="MIR_IMAGE", filter="F770W", pattern_type=None, subarray="FULL")
    given = exposures(
        image,
        {},
        {"bkgdtarg": True, "observation": "002"},
        {"bkgdtarg": True, "program": "05678"},
        {"bkgdtarg": True, "program": None},
        {"bkgdtarg": True, "subarray": "BRIGHTSKY"},
    )
    found = choose_dedicated(given, Pairing(source="dedicated"), Policy())
    # What a header does not say is like everything.
    assert used(found) == {"1": "2 4"}
    every = Pairing(source="dedicated", any_programme=True)
    assert used(choose_dedicated(given, every, Policy())) == {"1": "2 3 4"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "dedicated", "add_dedicated": True}, "--add-dedicated is for products from"),
        ({"source": "associations", "any_programme": True}, "not from associations"),
        ({"source": "nods", "any_programme": True}, "give --add-dedicated too"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Pairing(**options)


def test_what_is_said_of_dropped_nods_does_not_grow_with_the_square_of_the_pattern() -> None:
    def said(n: int) -> int:
        found = choose_others(nods(IFU, *[1 + i % 2 for i in range(n)]), NODS, Policy())
        lists = {id(entry.among): entry.among for each in found for entry in each.dropped}
        return sum(len(each.dropped) for each in found) + sum(map(len, lists.values()))

    assert said(40) == 2 * said(20)
