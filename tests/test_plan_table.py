"""What a plan prints: headlines, folded rows, details; and the associations that it writes."""

import json
from pathlib import Path
from typing import Any

import pytest
from programmes import expose, offsky_command

from offsky.errors import AssociationError, OutputExistsError
from offsky.io.association import read_association
from offsky.options import Options
from offsky.programme.associations import write_associations
from offsky.programme.details import as_dict
from offsky.programme.plan import Plan
from offsky.programme.plan_json import render_plan
from offsky.programme.plan_reader import parse_plan
from offsky.programme.planning import make_plan
from offsky.selection.pairing import Pairing

MASK = {"meta__instrument__filter": "F1140C", "meta__subarray__name": "MASK1140"}


@pytest.fixture
def stars(folder: Path) -> Path:
    """Write five targets, and three dedicated backgrounds an hour apart."""
    (folder / "in").mkdir()
    for number in range(1, 6):
        expose(folder / "in", number, **MASK)
    for number in range(11, 14):
        far = {"days": (number - 10) / 24, "arcsec": 60.0 * (number - 10)}
        expose(folder / "in", number, background=True, observation="002", **far, **MASK)
    return folder / "in"


def planned(*inputs: Path, **rule: Any) -> Plan:
    return make_plan(inputs, pairing=Pairing(**rule), options=Options())


def lines_of(*arguments: object) -> list[str]:
    done = offsky_command("plan", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_products_made_together_have_one_headline_and_equal_rows_are_folded(stars: Path) -> None:
    lines = lines_of(stars, "--from", "dedicated")
    assert lines[0].split() == ["product", "backgrounds", "remarks"]
    assert lines[1] == "MIRI F1140C MASK1140: 5 targets x 3 backgrounds"
    assert lines[2].split()[:4] == [
        "jw01234001001_02101_00001_mirimage_bsub.fits",
        "and",
        "4",
        "more",
    ]
    assert lines[3].startswith("5 products in 1 group;")


def test_rows_are_folded_only_where_the_same_is_said(stars: Path) -> None:
    for number, days in ((6, 9.0), (7, 9.0)):
        expose(stars, number, days=days, **MASK)
    lines = lines_of(stars, "--from", "dedicated", "--max-days", 1, "--min-backgrounds", 0)
    assert "MIRI F1140C MASK1140: 5 targets x 3 backgrounds" in lines
    alone = next(line for line in lines if "00006_" in line)
    assert "and 1 more" in alone
    assert alone.endswith("3 dropped: 8.88 to 8.96 days from the target, more than 1")


def test_reasons_of_skipped_products_are_shown_and_a_plan_of_these_alone_fails(
    folder: Path, stars: Path
) -> None:
    done = offsky_command("plan", stars, "--from", "nods", "-o", "plan.json")
    assert done.returncode == 1
    assert "skipped: 5 products" in done.stdout
    assert "no nod (EXP_TYPE MIR_IMAGE, PATTTYPE not given)" in done.stdout
    assert "nothing to make: 5 products are skipped" in done.stdout
    # Written all the same, and as JSON the status is the same.
    content = json.loads((folder / "plan.json").read_text())
    assert len(content["products"]) == 5
    assert offsky_command("plan", stars, "--from", "nods", "--json").returncode == 1


def test_details_name_every_background_with_date_separation_and_reason(stars: Path) -> None:
    lines = lines_of(stars, "--from", "dedicated", "--nearest", 2, "--details")
    first = next(i for i, line in enumerate(lines) if "00001_mirimage_bsub" in line)
    used, also, dropped = lines[first + 1 : first + 4]
    assert "00011_mirimage_rate.fits" in used
    assert used.split()[1:] == ["used", "2023-02-25T01:00:00,", '60"', "away"]
    assert also.split()[1] == "used"
    assert dropped.endswith('180" away, not among the 2 nearest in time')
    assert dropped.split()[1] == "dropped"


def test_details_as_json_say_the_same_and_survive_the_plan(folder: Path, stars: Path) -> None:
    plan = planned(stars, source="dedicated", nearest=2)
    again = parse_plan(render_plan(plan, "1"), "plan.json")
    assert as_dict(again) == as_dict(plan)
    (folder / "plan.json").write_text(render_plan(plan, "1"))
    done = offsky_command("plan", "plan.json", "--details", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content == json.loads(json.dumps(as_dict(plan)))
    product = content["products"][0]
    assert product["label"] == "MIRI F1140C MASK1140"
    assert [each["separation_arcsec"] for each in product["backgrounds"]] == [60.0, 120.0]
    (dropped,) = product["dropped"]
    assert dropped["reason"] == "not among the 2 nearest in time"
    assert dropped["date"] == "2023-02-25T03:00:00"


@pytest.mark.filterwarnings("ignore:Input association file contains path information")
@pytest.mark.parametrize("where", ["in", "asn"])
def test_associations_of_a_plan_are_loaded_by_the_pipeline_and_by_offsky(
    folder: Path, stars: Path, where: str
) -> None:
    pytest.importorskip("jwst.associations", reason="jwst is not installed")
    from jwst.associations.lib.rules_level2_base import DMSLevel2bBase
    from jwst.associations.load_as_asn import LoadAsLevel2Asn

    plan = planned(stars, source="dedicated")
    paths = write_associations(plan, folder / where, "1")
    assert [path.name for path in paths] == [
        f"jw01234001001_02101_{number:05d}_mirimage_image2_asn.json" for number in range(1, 6)
    ]
    again = make_plan(paths, pairing=Pairing(), options=Options(), allow_outside=where == "asn")
    for path, product, same in zip(paths, plan.products, again.products, strict=True):
        loaded = LoadAsLevel2Asn.load(path)
        assert loaded["asn_type"] == "image2"
        assert DMSLevel2bBase.validate(json.loads(path.read_text()))
        assert (same.output, same.target) == (product.output, product.target)
        assert same.backgrounds == product.backgrounds
        names = [
            each["expname"] for each in json.loads(path.read_text())["products"][0]["members"]
        ]
        assert all(("/" in name) == (where == "asn") for name in names)
    with pytest.raises(OutputExistsError, match="exists already"):
        write_associations(plan, folder / where, "1")
    write_associations(plan, folder / where, "1", overwrite=True)


def test_spectra_are_associated_for_their_own_pipeline_and_skipped_products_not(
    folder: Path,
) -> None:
    nod = {"meta__exposure__type": "MIR_LRS-FIXEDSLIT", "meta__instrument__filter": "P750L"}
    nod |= {"meta__dither__primary_type": "ALONG-SLIT-NOD"}
    (folder / "in").mkdir()
    for number in (1, 2):
        expose(folder / "in", number, **nod, meta__dither__position_number=number)
    expose(folder / "in", 3, **nod)
    done = offsky_command("plan", "in", "--from", "nods", "--write-associations", "asn")
    assert done.returncode == 0, done.stderr
    written = sorted(path.name for path in (folder / "asn").iterdir())
    assert [name.rpartition("mirimage_")[2] for name in written] == ["spec2_asn.json"] * 2


@pytest.mark.parametrize(
    "name", ["s3://bucket/a_rate.fits", "https://mast.stsci.edu/api?uri=a_rate.fits"]
)
def test_a_member_that_is_an_address_gets_one_clear_line(folder: Path, name: str) -> None:
    members = [{"expname": name, "exptype": "science"}]
    path = folder / "x_asn.json"
    path.write_text(json.dumps({"products": [{"name": "x", "members": members}]}))
    with pytest.raises(AssociationError, match="is an address, not a file; download it") as caught:
        read_association(path)
    assert "\n" not in str(caught.value)
