"""Level-2 associations on the command line: every product, and one line for what is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from plain import expose, pixels, product, refused, run, write_association

from offsky.io.association import read_association

VALUES = {"target": 10.0, "other": 20.0, "one": 1.0, "two": 2.0, "four": 4.0}


@pytest.fixture
def inputs(folder: Path) -> Path:
    """A folder beside the current one's products: exposures of one value each."""
    beside = folder / "inputs"
    beside.mkdir()
    for name, value in VALUES.items():
        expose(beside / f"{name}_rate.fits", value)
    expose(beside / "cube_rateints.fits", 30.0, shape=(2, 6, 8))
    return beside


def test_every_product_is_made_and_named_by_the_association(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asn = write_association(
        inputs / "a_asn.json",
        product("first", "target", "one", "two"),
        product("second", "other", "four"),
        product("third", "cube_rateints", "four", "two"),
        product("lonely", "target"),
    )
    # Members are relative to the association, products to the current folder.
    assert run("subtract", asn, "--save-combined") == 0
    assert sorted(path.name for path in Path().iterdir() if path.is_file()) == [
        "first_bsub.fits",
        "first_combinedbackground.fits",
        "lonely_bsub.fits",
        "second_bsub.fits",
        "second_combinedbackground.fits",
        "third_bsubints.fits",
        "third_combinedbackground.fits",
    ]
    for name, value in {"first": 8.5, "second": 16.0, "lonely": 10.0}.items():
        assert (pixels(f"{name}_bsub.fits") == value).all()
    assert (pixels("third_bsubints.fits") == 27).all()
    assert fits.getval("lonely_bsub.fits", "S_BKDSUB") == "SKIPPED"
    # One summary for each.
    out = capsys.readouterr().out
    assert [out.count(f"{name}_bsub") for name in ("first", "second", "lonely")] == [1, 1, 1]


def test_products_go_to_the_folder_asked_for_and_inputs_stay(inputs: Path) -> None:
    before = {path: path.read_bytes() for path in inputs.iterdir()}
    asn = write_association(inputs / "a_asn.json", product("first", "target", "one"))
    Path("products").mkdir()
    assert run("subtract", asn, "-o", "products") == 0
    assert [path.name for path in Path("products").iterdir()] == ["first_bsub.fits"]
    asn.unlink()
    assert {path: path.read_bytes() for path in inputs.iterdir()} == before


def test_members_in_folders_below_are_found_from_anywhere(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asn = write_association(
        inputs.parent / "a_asn.json",
        (
            "first",
            [("inputs/target_rate.fits", "science"), ("./inputs/one_rate.fits", "background")],
        ),
        ("again", [("inputs/../inputs/target_rate.fits", "SCIENCE")]),
    )
    monkeypatch.chdir(inputs)
    relative = Path("..") / asn.name
    assert [each.status for each in offsky_outcomes(relative)] == ["COMPLETE", "SKIPPED"]


def offsky_outcomes(asn: Path, **options: Any) -> list[Any]:
    from offsky.files import subtract_association

    return list(subtract_association(asn, **options))


def test_members_of_other_types_are_ignored_with_a_line_each(
    inputs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, members = product("first", "target", "one")
    # Not there, and never looked for.
    others = [("blank_rate.fits", "selfcal"), ("sources.ecsv", "sourcecat")]
    asn = write_association(inputs / "a_asn.json", (name, [others[0], *members, others[1]]))
    assert run("subtract", asn) == 0
    # What is not used although it was given is to be seen without asking for it.
    ignored = [r for r in caplog.records if "ignored" in r.getMessage()]
    assert [record.levelname for record in ignored] == ["WARNING"] * 2
    assert "products[0].members[0]: 'selfcal'" in ignored[0].getMessage()
    assert "products[0].members[3]: 'sourcecat'" in ignored[1].getMessage()
    assert (pixels("first_bsub.fits") == 9).all()


def test_keys_of_the_ground_system_are_known(inputs: Path) -> None:
    asn = write_association(inputs / "a_asn.json", product("first", "target", "one"))
    content = json.loads(asn.read_text())
    content |= {"degraded_status": "No known degraded exposures", "version_id": None}
    content |= {"constraints": "none", "target": "1", "code_version": "1.2"}
    for member in content["products"][0]["members"]:
        member |= {"exposerr": "null", "asn_candidate": "('o001', 'observation')"}
    asn.write_text(json.dumps(content))
    assert [each.name for each in read_association(asn)] == ["first"]


# Members outside the folder


def outside(inputs: Path, how: str) -> str:
    """Return a name in the folder's association of a file that is not in the folder."""
    expose(inputs.parent / "secret_rate.fits", 3)
    (inputs / "sub").mkdir()
    (inputs / "link_rate.fits").symlink_to(inputs.parent / "secret_rate.fits")
    (inputs / "linked").symlink_to(inputs.parent, target_is_directory=True)
    return {
        "up": "../secret_rate.fits",
        "up and about": "sub/../../secret_rate.fits",
        "absolute": str(inputs.parent / "secret_rate.fits"),
        "link": "link_rate.fits",
        "link to a folder": "linked/secret_rate.fits",
    }[how]


@pytest.mark.parametrize("kind", ["science", "background"])
@pytest.mark.parametrize("how", ["up", "up and about", "absolute", "link", "link to a folder"])
def test_members_outside_the_folder_need_permission(
    inputs: Path, capsys: pytest.CaptureFixture[str], how: str, kind: str
) -> None:
    name = outside(inputs, how)
    both = [(name, kind), ("one_rate.fits", "background" if kind == "science" else "science")]
    asn = write_association(inputs / "a_asn.json", ("first", both))
    line = refused(capsys, "subtract", asn)
    assert "products[0].members[0].expname" in line
    assert "--allow-outside" in line
    assert not list(Path().glob("first*"))

    assert run("subtract", asn, "--allow-outside") == 0
    assert (pixels("first_bsub.fits") == (2 if kind == "science" else -2)).all()


def test_a_file_outside_that_is_not_there_is_not_told_of(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asn = write_association(
        inputs / "a_asn.json",
        ("first", [("target_rate.fits", "science"), ("../gone.fits", "background")]),
    )
    assert "leaves the association's folder" in refused(capsys, "subtract", asn)


def test_names_and_folders_that_only_look_like_outside_are_inside(inputs: Path) -> None:
    expose(inputs / "..dots_rate.fits", 3)
    (inputs / "alias_rate.fits").symlink_to("one_rate.fits")
    names = ("..dots_rate.fits", "alias_rate.fits", str(inputs / "two_rate.fits"))
    members = [("target_rate.fits", "science"), *((name, "background") for name in names)]
    asn = write_association(inputs / "a_asn.json", ("first", members))
    # The folder itself reached by a link.
    Path("way").symlink_to(inputs, target_is_directory=True)
    for path in (asn, Path("way") / asn.name):
        assert [len(each.backgrounds) for each in read_association(path)] == [3]


def test_allow_outside_and_backgrounds_are_refused_where_they_mean_nothing(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asn = write_association(inputs / "a_asn.json", product("first", "target", "one"))
    target = inputs / "target_rate.fits"
    assert run("subtract", target, inputs / "one_rate.fits", "--allow-outside") == 2
    assert run("subtract", asn, inputs / "one_rate.fits") == 2


# Products that fail


def test_a_product_that_fails_does_not_stop_the_others(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (inputs / "two_rate.fits").write_bytes(b"not FITS")
    expose(inputs / "red_rate.fits", 1, FILTER="F2550W")
    asn = write_association(
        inputs / "a_asn.json",
        product("damaged", "target", "two"),
        product("mismatched", "target", "red"),
        product("damaged_target", "two", "one"),
        product("good", "target", "one"),
    )
    assert run("subtract", asn) == 1
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("offsky: ") for line in lines)
    assert "two_rate.fits" in lines[0]
    assert "FILTER 'F2550W'" in lines[1]
    assert "two_rate.fits" in lines[2]
    assert [path.name for path in Path().glob("*.fits")] == ["good_bsub.fits"]
    assert (pixels("good_bsub.fits") == 9).all()
    assert "good_bsub.fits" in captured.out


def test_json_tells_of_every_product(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asn = write_association(
        inputs / "a_asn.json",
        product("good", "target", "one", "two"),
        product("twice", "target", "one", "one"),
        product("lonely", "other"),
    )
    assert run("subtract", asn, "--json") == 1
    told = json.loads(capsys.readouterr().out)["products"]
    assert [each["status"] for each in told] == ["COMPLETE", "FAILED", "SKIPPED"]
    assert told[0]["output"] == "good_bsub.fits"
    assert told[0]["backgrounds"] == ["one_rate.fits", "two_rate.fits"]
    assert "one_rate.fits: is named twice" in told[1]["error"]
    # --force goes on here as for single files.
    assert run("subtract", asn, "--force", "--overwrite", "--json") == 0
    assert np.ptp(pixels("twice_bsub.fits")) == 0
