"""Imprints in programmes: found in the observations, planned, subtracted by any worker."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from plain import NIRSPEC, pixels, refused, run
from plain import expose as expose_plain
from programmes import offsky_command

import offsky
from offsky.engine.forecast import facts_of
from offsky.io.files import open_exposure
from offsky.io.imprinted import ImprintedExposure
from offsky.options import PROFILES, Options
from offsky.programme.plan_json import render_plan
from offsky.programme.plan_reader import parse_plan
from offsky.programme.planning import changed_since, make_plan
from offsky.programme.sizing import passes_of
from offsky.selection.pairing import Pairing
from offsky.values.exposure import Wanted

UNUSED = "an imprint (IS_IMPRT), neither target nor background"


def expose(folder: Path, name: str, sci: float, **keywords: Any) -> Path:
    return expose_plain(
        folder / f"{name}_rate.fits",
        sci,
        keywords={**NIRSPEC, "BKGDTARG": False, "IS_IMPRT": False, "PATT_NUM": 1, **keywords},
    )


@pytest.fixture
def programme(folder: Path) -> Path:
    """Two targets, two dedicated backgrounds, and for each side and position an imprint."""
    data = folder / "data"
    data.mkdir()
    for i in (1, 2):
        expose(data, f"science{i}", 100.0 + i, PATT_NUM=i, VISITGRP="02")
        expose(data, f"background{i}", 40.0 + 2 * i, PATT_NUM=i, BKGDTARG=True)
        expose(data, f"lt{i}", 3.0 + i, PATT_NUM=i, IS_IMPRT=True)
        expose(data, f"lb{i}", 1.0 + 2 * i, PATT_NUM=i, IS_IMPRT=True, BKGDTARG=True)
    # Of another detector, and of an observation that no exposure is of.
    expose(data, "nrs2", 1000.0, PATT_NUM=1, IS_IMPRT=True, DETECTOR="NRS2")
    expose(data, "elsewhere", 1000.0, PATT_NUM=1, IS_IMPRT=True, OBSERVTN="009")
    return data


def planned(data: Path, source: str = "dedicated", **how: Any) -> Any:
    return make_plan([data], pairing=Pairing(source=source), options=Options(), **how)  # type: ignore[arg-type]


def names(paths: Any) -> list[str]:
    return [Path(path).name.removesuffix("_rate.fits") for path in paths]


def test_a_plan_names_the_imprints_of_each_exposure(programme: Path) -> None:
    plan = planned(programme)
    assert [Path(product.target).name for product in plan.products] == [
        "science1_rate.fits",
        "science2_rate.fits",
    ]
    for i, product in enumerate(plan.products, 1):
        assert names(product.backgrounds) == ["background1", "background2"]
        assert [names(each) for each in product.imprints] == [[f"lt{i}"], ["lb1"], ["lb2"]]
        assert product.problem is None
    assert {names([path])[0]: why for path, why in plan.left_out} == {
        "nrs2": UNUSED,
        "elsewhere": UNUSED,
    }
    # One average for both: their backgrounds have the same imprints.
    assert [group.kind for group in plan.groups] == ["shared"]
    assert parse_plan(render_plan(plan, "1"), "plan.json") == plan
    content = json.loads(render_plan(plan, "1"))
    assert content["version"] == 2
    assert content["products"][0]["imprints"] == [
        ["lt1_rate.fits"],
        ["lb1_rate.fits"],
        ["lb2_rate.fits"],
    ]
    assert "lt1_rate.fits" in content["files"]


def test_details_name_the_imprints_of_each_exposure(
    programme: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("plan", programme, "--from", "dedicated", "--details")
    assert run(*words) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = [(row[0], row[-1]) for row in rows if row[-2:-1] == ["imprint"]]
    assert shown == [
        ("science1_bsub.fits", "lt1_rate.fits"),
        ("background1_rate.fits", "lb1_rate.fits"),
        ("background2_rate.fits", "lb2_rate.fits"),
        ("science2_bsub.fits", "lt2_rate.fits"),
        ("background1_rate.fits", "lb1_rate.fits"),
        ("background2_rate.fits", "lb2_rate.fits"),
    ]
    assert run(*words, "--json") == 0
    product = json.loads(capsys.readouterr().out)["products"][0]
    assert names(product["imprints"]) == ["lt1"]
    assert [names(each["imprints"]) for each in product["backgrounds"]] == [["lb1"], ["lb2"]]
    assert run(*words, "--imprints", "ignore") == 0
    assert "lb1" not in capsys.readouterr().out


def test_ignored_imprints_are_left_out_and_are_no_targets(programme: Path) -> None:
    plan = planned(programme, imprints="ignore")
    assert names(product.target for product in plan.products) == ["science1", "science2"]
    assert all(product.imprints == () for product in plan.products)
    assert set(dict(plan.left_out).values()) == {UNUSED}
    assert len(plan.left_out) == 6
    with pytest.raises(offsky.ParameterError, match="known are use, ignore"):
        planned(programme, imprints="maybe")


def test_a_single_imprint_serves_all_whatever_its_bkgdtarg(programme: Path) -> None:
    for name in ("lt1", "lt2", "lb2"):
        (programme / f"{name}_rate.fits").unlink()
    for product in planned(programme).products:
        assert [names(each) for each in product.imprints] == [["lb1"]] * 3


def test_where_only_one_side_finds_an_imprint_the_plan_tells_the_problem(
    programme: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("lb1", "lb2"):
        (programme / f"{name}_rate.fits").unlink()
    plan = planned(programme)
    assert "none of 2 imprints has its BKGDTARG True" in caplog.text
    for product in plan.products:
        assert "no imprint has been subtracted from it" in (product.problem or "")
        assert [len(each) for each in product.imprints] == [1, 0, 0]
    assert all(product.problem is None for product in planned(programme, force=True).products)


def test_a_plan_tells_of_exposures_of_which_some_had_their_imprint(programme: Path) -> None:
    for name in ("lt1", "lt2", "lb1", "lb2", "nrs2", "elsewhere"):
        (programme / f"{name}_rate.fits").unlink()
    assert all(product.problem is None for product in planned(programme).products)
    expose(programme, "science1", 101.0, VISITGRP="02", S_IMPRNT="COMPLETE")
    first, second = planned(programme).products
    assert "background1_rate.fits: no imprint has been subtracted from it" in (first.problem or "")
    assert (first.imprints, second.problem) == ((), None)


@pytest.mark.parametrize("source", ["nods", "dithers"])
def test_patterns_find_their_imprints_too(folder: Path, source: str) -> None:
    for i in (1, 2, 3):
        facts = {"PATT_NUM": i, "PATTTYPE": "4-POINT-NOD", "NUMDTHPT": 4}
        expose(folder, f"nod{i}", float(i), RA_REF=150.0 + i / 3600, DEC_REF=2.0, **facts)
        expose(folder, f"l{i}", 0.1 * i, IS_IMPRT=True, **facts)
    plan = planned(folder, source)
    assert names(product.target for product in plan.products) == ["nod1", "nod2", "nod3"]
    for product in plan.products:
        exposures = names([product.target, *product.backgrounds])
        assert [names(each) for each in product.imprints] == [
            [f"l{name.removeprefix('nod')}"] for name in exposures
        ]
    assert [group.kind for group in plan.groups] == ["leave-one-out"]


WORK = [
    pytest.param((), id="here"),
    pytest.param(("--workers", 2), marks=pytest.mark.slow, id="workers"),
    pytest.param(("--dask", "cluster"), marks=pytest.mark.slow, id="dask"),
]


@pytest.mark.parametrize("who", WORK)
def test_a_run_subtracts_what_the_plan_says(
    programme: Path, folder: Path, who: tuple[Any, ...], request: pytest.FixtureRequest
) -> None:
    if "cluster" in who:
        pytest.importorskip("distributed")
        who = "--dask", request.getfixturevalue("cluster_address")()
    done = offsky_command("run", programme, "--from", "dedicated", "-o", folder / "out", *who)
    assert done.returncode == 0, done.stderr
    for i in (1, 2):
        made = folder / "out" / f"science{i}_bsub.fits"
        expected = (100.0 + i) - (3.0 + i) - ((42.0 - 3.0) + (44.0 - 5.0)) / 2
        np.testing.assert_array_equal(pixels(made), expected)
        assert fits.getheader(made)["S_IMPRNT"] == "COMPLETE"


def test_a_product_whose_imprints_changed_is_made_again(
    programme: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def made() -> list[str]:
        capsys.readouterr()
        assert run("run", programme, "--from", "dedicated", "-o", folder / "out", "--json") == 0
        products = json.loads(capsys.readouterr().out)["products"]
        return [each["target"].split("/")[-1] for each in products if each["made"]]

    assert made() == ["science1_rate.fits", "science2_rate.fits"]
    assert made() == []
    expose(programme, "lt2", 7.0, PATT_NUM=2, IS_IMPRT=True)
    assert made() == ["science2_rate.fits"]
    np.testing.assert_array_equal(
        pixels(folder / "out" / "science2_bsub.fits"), 102.0 - 7.0 - 39.0
    )
    # Without imprints it is another product.
    assert run("run", programme, "--from", "dedicated", "-o", folder / "out", "--imprints",
               "ignore", "--json") == 0  # fmt: skip
    assert [each["made"] for each in json.loads(capsys.readouterr().out)["products"]] == [True] * 2
    np.testing.assert_array_equal(pixels(folder / "out" / "science2_bsub.fits"), 102.0 - 43.0)


def test_a_plan_whose_imprints_changed_says_so(programme: Path) -> None:
    plan = planned(programme)
    assert changed_since(plan) == []
    os.utime(programme / "lb1_rate.fits", ns=(5, 5))
    assert changed_since(plan) == [str(programme / "lb1_rate.fits")]


def test_a_plan_settles_the_imprints(programme: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", programme, "--from", "dedicated", "-o", "plan.json") == 0
    capsys.readouterr()
    assert run("run", "plan.json", "--imprints", "ignore") == 2
    assert "--imprints is settled in the plan" in capsys.readouterr().err


def test_associations_give_imprints_to_a_programme_or_not(
    programme: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from plain import write_association

    members = [
        ("science1", "science"),
        ("background1", "background"),
        ("background2", "background"),
    ]
    members += [(name, "imprint") for name in ("lt1", "lt2", "lb1", "lb2")]
    association = write_association(
        programme / "a_asn.json", ("one", [(f"{name}_rate.fits", kind) for name, kind in members])
    )
    (product,) = make_plan([association], pairing=Pairing(), options=Options()).products
    assert [names(each) for each in product.imprints] == [["lt1"], ["lb1"], ["lb2"]]
    for use, expected in (("use", 101.0 - 4.0 - 39.0), ("ignore", 101.0 - 43.0)):
        for command in ("run", "subtract"):
            out = folder / f"{use}_{command}"
            out.mkdir()
            assert run(command, association, "--imprints", use, "-o", out) == 0
            np.testing.assert_array_equal(pixels(out / "one_bsub.fits"), expected)
    # One that is not there stops the product, unless imprints are ignored.
    (programme / "lt2_rate.fits").unlink()
    capsys.readouterr()
    assert run("subtract", association, "-o", folder / "missing") == 1
    assert "lt2_rate.fits: no such file" in capsys.readouterr().err
    (product,) = make_plan([association], pairing=Pairing(), options=Options()).products
    assert "lt2_rate.fits" in (product.problem or "")
    (product,) = make_plan(
        [association], pairing=Pairing(), options=Options(), imprints="ignore"
    ).products
    assert product.problem is None


def test_an_imprint_that_is_the_science_member_is_refused(
    programme: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from plain import write_association

    members = [("lt1_rate.fits", "science"), ("lt1_rate.fits", "imprint")]
    association = write_association(programme / "a_asn.json", ("one", members))
    assert "is both science and imprint" in refused(capsys, "subtract", association)


@pytest.mark.parametrize(
    ("imprints", "words"),
    [
        (3, "int where list"),
        ([["lt1_rate.fits"]], "1 lists; expected one for the target and one for each of 2"),
        ([[], [], "x"], "str where list"),
        ([[], [], [1]], "int where str"),
        ([["nowhere"], [], []], "nowhere is not among its files"),
    ],
)
def test_a_plan_with_impossible_imprints_is_refused_in_one_line(
    programme: Path, imprints: Any, words: str
) -> None:
    content = json.loads(render_plan(planned(programme), "1"))
    content["products"][0]["imprints"] = imprints
    with pytest.raises(offsky.ParameterError, match=words) as caught:
        parse_plan(json.dumps(content), "plan.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("profile", ["jwst", "offsky"])
def test_the_forecast_of_a_plan_counts_rows_of_imprints(programme: Path, profile: str) -> None:
    options = PROFILES[profile]
    pairing = Pairing(source="dedicated")
    plan = make_plan([programme], pairing=pairing, options=options)
    without = make_plan([programme], pairing=pairing, options=options, imprints="ignore")
    (pass_,), files = passes_of(plan, plan.groups[0])
    (other,), _ = passes_of(without, without.groups[0])
    assert len(files) == 2 + 2 + 4
    # What the engine counts, of the planes that are wanted.
    wanted = Wanted(True, options.errors == "propagate")
    for facts, bare in zip(pass_.exposures, other.exposures, strict=True):
        number = names([facts.key[0]])[0][-1]  # type: ignore[index]
        opened = [
            open_exposure(programme / f"{name}{number}_rate.fits") for name in ("background", "lb")
        ]
        needed = facts_of(ImprintedExposure(opened[0], opened[1:]), wanted).row_bytes
        assert bare.row_bytes < needed <= facts.row_bytes
        for each in opened:
            each.close()
