"""The rules against those of the JWST pipeline's own generator, from the same headers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_nods import IFU, LRS, SHUTTERS, SLIT, exposures, used

from offsky.selection.examined import Examined
from offsky.selection.pairing import Pairing
from offsky.selection.rules import choose_dedicated, choose_others
from offsky.selection.suitability import Policy

pytest.importorskip("jwst.associations", reason="jwst is not installed")

IMAGE = replace(LRS, exp_type="MIR_IMAGE", filter="F770W", pattern_type="CYCLING", subarray="FULL")

Facts = dict[str, Any]


def at(*numbers: int, **facts: Any) -> list[Facts]:
    """Return facts of exposures at these numbers of a pattern."""
    return [{"pattern_number": number, **facts} for number in numbers]


def sky(*facts: Facts, **more: Any) -> list[Facts]:
    """Return facts of dedicated backgrounds, in an observation of their own."""
    dedicated = {"bkgdtarg": True, "observation": "002", "proposed_target": "SKY"}
    return [{**each, **dedicated, **more} for each in facts]


def ours(given: list[Examined], pairing: Pairing) -> dict[str, set[str]]:
    """Return the backgrounds of each product that is not skipped."""
    rule = choose_dedicated if pairing.source == "dedicated" else choose_others
    found = rule(given, pairing, Policy())
    made = [each for each in found if each.skipped is None]
    return {name: set(names.split()) for name, names in used(made).items()}


def theirs(given: list[Examined], *linked: str) -> dict[str, set[str]]:
    """Return the backgrounds of each product of the generator that has some."""
    from generator import products_of

    found = {
        target: members.get("background", set())
        for target, members in products_of(given, linked).items()
    }
    return {target: members for target, members in found.items() if members}


SETS: dict[str, Callable[[], list[Examined]]] = {
    "a slit, 3 points": lambda: exposures(SLIT, *at(1, 2, 3)),
    "a slit, 3 points twice": lambda: exposures(SLIT, *at(1, 2, 3, 1, 2, 3)),
    "a slit, 3 points of 4 subpixel dithers": lambda: exposures(
        replace(SLIT, n_positions=12, n_subpixel=4), *at(*range(1, 13))
    ),
    "a slit, 5 points": lambda: exposures(replace(SLIT, n_positions=5), *at(1, 2, 3, 4, 5)),
    "the wide slit, 5 points": lambda: exposures(
        replace(SLIT, n_positions=5, fixed_slit="S1600A1", subarray="SUBS1600A1"),
        *at(1, 2, 3, 4, 5),
    ),
    "the wide slit, 5 points of 2 subpixel dithers, twice": lambda: exposures(
        replace(SLIT, n_positions=10, n_subpixel=2, fixed_slit="S1600A1", subarray="SUBS1600A1"),
        *at(*range(1, 11)),
        *at(*range(1, 11)),
    ),
    "the wide slit, 3 points": lambda: exposures(
        replace(SLIT, fixed_slit="S1600A1", subarray="SUBS1600A1"), *at(1, 2, 3)
    ),
    "three slits in turn": lambda: exposures(
        SLIT,
        *at(1, 2, 3),
        *at(1, 2, 3, fixed_slit="S200A2", activity="03"),
        *at(1, 2, 3, fixed_slit="S400A1", activity="05"),
    ),
    "two targets in one slit": lambda: exposures(
        SLIT, *at(1, 2, 3), *at(1, 2, 3, proposed_target="OTHER", visit_group="04")
    ),
    "two gratings and both detectors": lambda: exposures(
        SLIT,
        *at(1, 2),
        *at(1, 2, grating="G235H", filter="F170LP", activity="03"),
        *at(1, 2, detector="NRS2"),
    ),
    "shutters, 3 points": lambda: exposures(SHUTTERS, *at(1, 2, 3)),
    "shutters, two targets and two configurations": lambda: exposures(
        SHUTTERS,
        *at(1, 2, 3),
        *at(1, 2, 3, msa_file="jw_02_msa.fits", activity="03"),
        *at(1, 2, 3, proposed_target="OTHER", activity="05"),
    ),
    "shutters, two activities of one configuration": lambda: exposures(
        SHUTTERS, *at(1, 2, 3), *at(1, 2, 3, activity="03")
    ),
    "shutters, 3 points of 2 subpixel dithers twice": lambda: exposures(
        replace(SHUTTERS, n_positions=6, n_subpixel=2), *at(*range(1, 7)), *at(*range(1, 7))
    ),
    "IFU, 4 points": lambda: exposures(IFU, *at(1, 2, 3, 4)),
    "IFU, 2 points": lambda: exposures(replace(IFU, pattern_type="2-POINT-NOD"), *at(1, 2)),
    "IFU with leakcals": lambda: exposures(
        IFU, *at(1, 2, 3, 4), *at(1, 2, 3, 4, is_imprint=True, visit_group="04")
    ),
    "IFU, no nods": lambda: exposures(replace(IFU, pattern_type="CYCLING"), *at(1, 2, 3, 4)),
    "LRS": lambda: exposures(LRS, *at(1, 2)),
    "LRS, twice": lambda: exposures(LRS, *at(1, 2, 1, 2)),
    "LRS, another visit group and target": lambda: exposures(
        LRS, *at(1, 2), *at(1, 2, visit_group="04", proposed_target="OTHER")
    ),
    "LRS, two observations": lambda: exposures(LRS, *at(1, 2), *at(1, 2, observation="003")),
    "LRS, no nods": lambda: exposures(replace(LRS, pattern_type="MAPPING"), *at(1, 2, 3)),
    "dithered images": lambda: exposures(IMAGE, *at(1, 2, 3, 4)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_nods_are_those_of_the_generator(name: str) -> None:
    given = SETS[name]()
    assert ours(given, Pairing(source="nods")) == theirs(given)


DEDICATED: dict[str, Callable[[], list[Examined]]] = {
    "images": lambda: exposures(IMAGE, *at(1, 2, 3, 4), *sky(*at(1, 2, 3))),
    "images of two filters": lambda: exposures(
        IMAGE,
        *at(1, 2),
        *at(1, 2, filter="F1000W"),
        *sky(*at(1, 2)),
        *sky(*at(1), filter="F1000W"),
    ),
    "images of two subarrays": lambda: exposures(
        IMAGE, *at(1, 2), *sky(*at(1)), *sky(*at(1), subarray="SUB256")
    ),
    "IFU, each side with its own leakcal": lambda: exposures(
        replace(IFU, pattern_type="CYCLING"),
        *at(1, 2, 3, 4),
        *at(1, is_imprint=True, visit_group="04"),
        *sky(*at(1, 2)),
        *sky(*at(1), is_imprint=True, visit_group="04"),
    ),
    "IFU, one observation and visit group": lambda: exposures(
        replace(IFU, pattern_type="CYCLING"),
        *at(1, 2, activity="01"),
        *at(1, 2, activity="03", bkgdtarg=True, proposed_target="SKY"),
        *at(1, 2, activity="05", is_imprint=True),
        *at(1, 2, activity="07", is_imprint=True, bkgdtarg=True, proposed_target="SKY"),
    ),
    "LRS": lambda: exposures(replace(LRS, pattern_type="NONE"), *at(1, 2), *sky(*at(1, 2))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DEDICATED)
def test_dedicated_backgrounds_are_those_of_the_generator(name: str) -> None:
    given = DEDICATED[name]()
    assert ours(given, Pairing(source="dedicated")) == theirs(given, "001", "002")


def test_dedicated_backgrounds_of_a_slit_join_its_nods_as_in_the_generator() -> None:
    given = exposures(SLIT, *at(1, 2, 3), *sky(*at(1, 2, 3)))
    pairing = Pairing(source="nods", add_dedicated=True)
    assert ours(given, pairing) == theirs(given, "001", "002")


# What follows is decided otherwise: docs/programmes.md says why.


@pytest.mark.parametrize("base", [IFU, SHUTTERS])
def test_unlike_the_generator_repeats_at_one_nod_are_not_used(base: Any) -> None:
    given = exposures(base, *at(1, 2, 1))
    made = ours(given, Pairing(source="nods"))
    assert made == {"1": {"2"}, "2": {"1", "3"}, "3": {"2"}}
    assert theirs(given) == {"1": {"2", "3"}, "2": {"1", "3"}, "3": {"1", "2"}}


def test_unlike_the_generator_a_slit_without_subpixel_points_has_nods() -> None:
    given = exposures(replace(SLIT, n_subpixel=None), *at(1, 2))
    assert ours(given, Pairing(source="nods")) == {"1": {"2"}, "2": {"1"}}
    assert theirs(given) == {}


def test_unlike_the_generator_of_three_places_along_the_slit_both_others_are_used() -> None:
    given = exposures(LRS, *at(1, 2, 3))
    made = ours(given, Pairing(source="nods"))
    assert made == {"1": {"2", "3"}, "2": {"1", "3"}, "3": {"1", "2"}}
    assert all(len(members) == 1 for members in theirs(given).values())


def test_unlike_the_generator_dedicated_backgrounds_do_not_join_nods_unasked() -> None:
    given = exposures(SLIT, *at(1, 2), *sky(*at(1)))
    assert ours(given, Pairing(source="nods")) == {"1": {"2"}, "2": {"1"}}
    assert theirs(given, "001", "002") == {"1": {"2", "3"}, "2": {"1", "3"}}


def test_unlike_the_generator_no_link_between_observations_is_needed() -> None:
    given = exposures(IMAGE, *at(1), *sky(*at(1)))
    assert ours(given, Pairing(source="dedicated")) == {"1": {"2"}}
    assert theirs(given) == {}


def test_the_real_nods_are_those_of_the_generator(shared_data: Path) -> None:
    from contextlib import closing

    from offsky.io.files import open_exposure
    from offsky.selection.choose import candidate_of

    given = []
    for i, path in enumerate(sorted((shared_data / "nirspec_nod").glob("*.fits")), start=1):
        with closing(open_exposure(path)) as exposure:
            candidate = candidate_of(exposure)
        placement = replace(candidate.placement, name=str(i))
        given.append(Examined(f"/x/{i}", replace(candidate, placement=placement)))
    made = ours(given, Pairing(source="nods"))
    assert made == {"1": {"2", "3"}, "2": {"1", "3"}, "3": {"1", "2"}}
    assert made == theirs(given)
