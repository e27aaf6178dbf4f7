"""Associations that jwst loads are loaded, and products have the names that stpipe gives."""

import copy
import json
from pathlib import Path

import pytest
from plain import expose

import offsky
from offsky.io.association import read_association

PLAIN = {
    "asn_type": "image2",
    "asn_rule": "x",
    "program": "1",
    "asn_pool": "none",
    "products": [
        {
            "name": "prod",
            "members": [
                {"expname": "t_rate.fits", "exptype": "science"},
                {"expname": "b_rate.fits", "exptype": "background"},
            ],
        }
    ],
}


def _forms() -> dict[str, bytes]:
    member = copy.deepcopy(PLAIN)
    member["products"][0]["members"][0]["group_id"] = "1"
    product = copy.deepcopy(PLAIN)
    product["products"][0]["note"] = {"a": [1, 2]}
    text = json.dumps(PLAIN)
    return {
        "plain": text.encode(),
        "further key": json.dumps({**PLAIN, "creation_time": "20160826T131159"}).encode(),
        "further key of a member": json.dumps(member).encode(),
        "further key of a product": json.dumps(product).encode(),
        "byte-order mark": text.encode("utf-8-sig"),
        "trailing comma": text.replace("}]}]}", "},]}\n, ]}").encode(),
        "comma in a text": json.dumps({**PLAIN, "note": ',] ",}'}).replace("]}", ",]}").encode(),
    }


@pytest.mark.parametrize("form", _forms())
def test_a_form_that_jwst_loads_is_loaded(folder: Path, form: str) -> None:
    expose(folder / "t_rate.fits", 10)
    expose(folder / "b_rate.fits", 3)
    (folder / "x_asn.json").write_bytes(_forms()[form])
    (outcome,) = offsky.subtract_association("x_asn.json")
    assert Path(outcome.output).name == "prod_bsub.fits"


@pytest.mark.parametrize("name", ["prod_rate", "prod.fits", "prod_rateints.fits", "prod_cal"])
def test_a_product_has_the_name_that_stpipe_gives(folder: Path, name: str) -> None:
    pytest.importorskip("jwst")
    from jwst.background import BackgroundStep

    named = copy.deepcopy(PLAIN)
    named["products"][0]["name"] = name
    (folder / "x_asn.json").write_text(json.dumps(named))
    (product,) = read_association(folder / "x_asn.json")
    expected = BackgroundStep().make_output_path(name, suffix="bsub", ext="fits")
    assert f"{product.name}_bsub.fits" == Path(expected).name


def test_two_names_of_one_product_are_refused(folder: Path) -> None:
    both = copy.deepcopy(PLAIN)
    both["products"] *= 2
    both["products"] = [{**both["products"][0], "name": name} for name in ("prod", "prod_rate")]
    (folder / "x_asn.json").write_text(json.dumps(both))
    with pytest.raises(offsky.AssociationError, match="2 products are called 'prod'"):
        read_association(folder / "x_asn.json")


def test_a_text_that_is_no_json_is_still_refused(folder: Path) -> None:
    for text in ("{,}x", "[1,", "", '{"a": ,}'):
        (folder / "x_asn.json").write_text(text)
        with pytest.raises(offsky.AssociationError):
            read_association(folder / "x_asn.json")
