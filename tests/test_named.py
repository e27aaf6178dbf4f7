"""Backgrounds that people name, hints where none is marked, and tables of their own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from programmes import expose, offsky_command
from test_nods import IFU, LRS, exposures

from offsky.errors import OffskyError
from offsky.options import Options
from offsky.programme.plan import Plan
from offsky.programme.planning import make_plan
from offsky.selection.pairing import Pairing
from offsky.selection.rules import choose_dedicated
from offsky.selection.suitability import Policy

IMAGE = replace(LRS, exp_type="MIR_IMAGE", filter="F770W", pattern_type="CYCLING")


@pytest.fixture
def sky(folder: Path) -> Path:
    """Write two targets, a dedicated background, and an unmarked field 3.1' away."""
    for number in (1, 2):
        expose(folder / "in", number, meta__target__proposer_name="STAR")
    expose(folder / "in", 3, background=True, observation="003")
    for number in (1, 2):
        expose(
            folder / "in",
            number,
            observation="002",
            arcsec=186.0,
            meta__target__proposer_name="EMPTY-SKY",
        )
    return folder / "in"


@pytest.fixture(autouse=True)
def _folders(folder: Path) -> None:
    (folder / "in").mkdir()


def planned(*inputs: Path, **rule: Any) -> Plan:
    return make_plan(inputs, pairing=Pairing(**rule), options=Options())


def made(plan: Plan) -> dict[str, list[str]]:
    """Return the observation and number of each target, and of its backgrounds."""

    def short(path: str) -> str:
        name = Path(path).name
        return f"{name[7:10]}/{name[20:25].lstrip('0')}"

    return {short(each.target): [*map(short, each.backgrounds)] for each in plan.products}


@pytest.mark.parametrize(
    "what", ["obs:2", "OBS:002", "target:empty-sky", "*01234002*_rate.fits", "in/*4002001_*"]
)
def test_named_exposures_are_the_backgrounds_and_no_targets(sky: Path, what: str) -> None:
    plan = planned(sky, backgrounds=(what,))
    assert plan.pairing.source == "dedicated"
    assert made(plan) == {"001/1": ["002/1", "002/2"], "001/2": ["002/1", "002/2"]}
    # Marked, but not named.
    assert [Path(path).name[7:10] for path, _ in plan.left_out] == ["003"]


def test_backgrounds_are_named_as_files_and_folders_outside_of_the_inputs_too(
    folder: Path, sky: Path
) -> None:
    (folder / "away").mkdir()
    far = expose(folder / "away", 9, observation="009", meta__observation__program_number="09999")
    for what in (("away",), (str(far),)):
        assert made(planned(sky, backgrounds=what))["001/1"] == ["009/9"]
    both = planned(sky, backgrounds=("obs:3", "away"))
    assert made(both)["002/1"] == ["009/9", "003/3"], "in the order of their paths"


def test_an_observation_serves_its_own_programme_unless_any_will_do(sky: Path) -> None:
    expose(sky, 5, observation="004", meta__observation__program_number="05678")
    plan = planned(sky, backgrounds=("obs:2",))
    assert made(plan)["004/5"] == []
    assert "none of the named backgrounds" in str(plan.products[-1].skipped)
    every = planned(sky, backgrounds=("obs:2",), any_programme=True)
    assert made(every)["004/5"] == ["002/1", "002/2"]


def test_named_backgrounds_of_another_configuration_are_not_used(sky: Path) -> None:
    expose(sky, 7, observation="002", meta__instrument__filter="F1000W")
    assert made(planned(sky, backgrounds=("obs:2",)))["001/1"] == ["002/1", "002/2"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"backgrounds": ("obs:99",)}, r"no exposure has OBSERVTN 99; there are 001, 002, 003"),
        ({"backgrounds": ("target:NOWHERE",)}, "no exposure has TARGPROP or TARGNAME NOWHERE"),
        ({"backgrounds": ("obs:",)}, "no exposure has OBSERVTN"),
        ({"backgrounds": ("nothing*.fits",)}, "no such file, folder or exposure"),
        ({"backgrounds": ("obs:2",), "source": "nods"}, "--backgrounds is for products from"),
        ({"source": "table"}, "--table FILE.csv"),
    ],
)
def test_names_that_nothing_has_get_one_clear_line(
    sky: Path, rule: dict[str, Any], message: str
) -> None:
    with pytest.raises(OffskyError, match=message) as caught:
        planned(sky, **rule)
    assert "\n" not in str(caught.value)


def test_an_imprint_that_is_named_is_refused(sky: Path) -> None:
    leakcal = expose(sky, 8, observation="002", meta__exposure__imprint=True)
    with pytest.raises(OffskyError, match="is an imprint"):
        planned(sky, backgrounds=(str(leakcal),))
    assert made(planned(sky, backgrounds=("obs:2",)))["001/1"] == ["002/1", "002/2"]


def skipped(*facts: dict[str, Any], base: Any = IMAGE) -> list[str | None]:
    given = exposures(base, *facts)
    pairing = Pairing(source="dedicated")
    return [each.skipped for each in choose_dedicated(given, pairing, Policy())]


def test_where_no_background_is_marked_the_plan_says_what_could_be_one() -> None:
    here = {"ra_ref": 150.0, "dec_ref": 2.0}
    there = {"ra_ref": 150.0, "dec_ref": 2.0 + 3.1 / 60, "observation": "002"}
    far = {"ra_ref": 150.0, "dec_ref": 5.0, "observation": "003"}
    found = skipped(here, here, there, far)
    assert found[0] == (
        "no exposure has BKGDTARG; observation 2 has the same configuration and points 3.1' away: "
        "--backgrounds obs:2"
    )
    assert found[1] == found[0]
    # One that shows the target too is none, nor one of another configuration.
    assert skipped(here, {**here, "observation": "002"})[0] == "no exposure has BKGDTARG"
    assert skipped(here, {**there, "filter": "F560W"})[0] == "no exposure has BKGDTARG"
    assert "has the same configuration: --backgrounds obs:2" in str(
        skipped({}, {"observation": "002"})[0]
    )


def test_marked_backgrounds_of_other_programmes_are_hinted_at() -> None:
    (found,) = skipped({}, {"bkgdtarg": True, "program": "05678"})
    assert found is not None
    assert "1 of other programmes or subarrays fit: --any-programme" in found
    (found,) = skipped({}, {"bkgdtarg": True, "filter": "F560W"})
    assert found == "no dedicated background (BKGDTARG) of its programme and configuration"
    assert skipped({}, {"is_imprint": True}, base=IFU) == ["no exposure has BKGDTARG"]


def table(folder: Path, text: str) -> Path:
    path = folder / "pairs.csv"
    path.write_text(text)
    return path


def test_a_table_says_what_is_made_of_what(folder: Path, sky: Path) -> None:
    t1, t2, *_, b2, b3 = sorted(path.name for path in sky.iterdir())
    from astropy.io import fits

    fits.PrimaryHDU().writeto(folder / "m.fits")
    path = table(
        folder,
        "target, background, product, mask\n"
        f"in/{t1},in/{b2},,\n"
        f"in/{t1},in/{b3},,m.fits\n\n"
        f"{t2},{b3},second,\n",
    )
    for inputs in ((sky,), sorted(sky.iterdir())):
        plan = planned(*inputs, table=str(path))
        assert plan.pairing.source == "table"
        first, second = plan.products
        assert [Path(each).name for each in first.backgrounds] == [b2, b3]
        assert first.masks == (None, str(folder / "m.fits"))
        assert (second.output, Path(second.target).name) == ("second_bsub.fits", t2)
        assert second.masks == ()
    done = offsky_command("run", sky, "--table", path, "-o", "out")
    assert done.returncode == 1, "the mask is no image"
    path.write_text(path.read_text().replace("m.fits", ""))
    done = offsky_command("run", sky, "--table", path, "-o", "out")
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "second_bsub.fits").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'target'"),
        ("target\n", "no column 'background'"),
        ("target,background\n", "no rows"),
        ("target,background,colour\n", "column 'colour'"),
        ("target,target,background\n", "each once"),
        ("target,background\nT,gone.fits\n", "row 2: background 'gone.fits': no such file"),
        ("target,background\nT,B\nT\n", "row 3: not as many fields"),
        ("target,background\nT,B\nT,\n", "row 3: no background"),
        ("target,background\nT,B,B\n", "row 2: not as many fields"),
        ("target,background,product\nT,B,../x\n", "row 2: product '../x'"),
        ("target,background,product\nT,B,x\nB,T,x\n", "row 3: product 'x' has target"),
    ],
)
def test_a_table_that_makes_no_sense_gets_one_line_that_names_the_row(
    folder: Path, sky: Path, text: str, message: str
) -> None:
    target, background = sorted(path.name for path in sky.iterdir())[:2]
    path = table(folder, text.replace("T,", f"{target},").replace(",T", f",{target}")
                 .replace("B,", f"{background},").replace(",B", f",{background}"))  # fmt: skip
    with pytest.raises(OffskyError, match=message) as caught:
        planned(sky, table=str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there_and_masks_given_twice_are_refused(
    folder: Path, sky: Path
) -> None:
    with pytest.raises(OffskyError, match=r"nowhere\.csv: no such file"):
        planned(sky, table="nowhere.csv")
    with pytest.raises(OffskyError, match=r"cannot be read \(it is a directory, not a regular"):
        planned(sky, table=str(folder))
    target, background = sorted(path.name for path in sky.iterdir())[:2]
    path = table(folder, f"target,background,mask\n{target},{background},{target}\n")
    with pytest.raises(OffskyError, match="give them once"):
        make_plan(
            [sky],
            pairing=Pairing(table=str(path)),
            options=Options(),
            masks={background: folder / "m.fits"},
        )


def test_a_table_names_no_imprint(folder: Path, sky: Path) -> None:
    leakcal = expose(sky, 8, observation="002", meta__exposure__imprint=True)
    target = min(path.name for path in sky.iterdir())
    path = table(folder, f"target,background\n{target},{leakcal.name}\n")
    with pytest.raises(OffskyError, match="is an imprint"):
        planned(sky, table=str(path))


@pytest.mark.slow
def test_the_commands_take_names_and_tables(folder: Path, sky: Path) -> None:
    done = offsky_command("run", sky, "--backgrounds", "obs:2", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert len(list((folder / "out").glob("*_bsub.fits"))) == 2
    for wrong, message in (
        (("--from", "nods", "--backgrounds", "obs:2"), "--backgrounds is for --from dedicated"),
        (("--from", "associations", "--table", "x.csv"), "--table is for --from table"),
    ):
        done = offsky_command("plan", sky, *wrong)
        assert done.returncode == 2
        assert message in done.stderr
    done = offsky_command("plan", "--from", "dithers")
    assert done.returncode == 2
    assert "name the inputs" in done.stderr


@pytest.mark.parametrize("name", ["nowhere", "nowhere/deeper", "x_rate.fits", "x_asn.json"])
@pytest.mark.parametrize("source", ["associations", "dithers"])
def test_what_is_not_there_is_told_as_that(folder: Path, name: str, source: Any) -> None:
    kind = "file" if "." in name else "file or folder"
    with pytest.raises(OffskyError, match=f"{name}: no such {kind}; check the name"):
        planned(Path(name), source=source)
