"""A plan as level-2 associations, for the JWST pipeline and for offsky."""

import json
from pathlib import Path
from typing import Any

from offsky.errors import OutputExistsError
from offsky.io.names import product_root
from offsky.io.output import atomic_output
from offsky.programme.plan import Plan, PlannedProduct

# What `calwebb_spec2` is for; all else is for `calwebb_image2`.
_SPECTRA = ("SPEC", "LRS", "MRS", "IFU", "SLIT", "GRISM", "WFSS", "SOSS", "BRIGHTOBJ")


def write_associations(
    plan: Plan, folder: Path, made_by: str, *, overwrite: bool = False
) -> list[Path]:
    """Write one association for each product that is not skipped.

    Parameters
    ----------
    plan : Plan
        The plan.
    folder : Path
        Where to; made if it is not there. Members lying there are named without their folder,
        others with their whole paths.
    made_by : str
        Version of offsky.
    overwrite : bool
        Whether files that exist are replaced.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    OutputExistsError
        Before any is written, if one exists.
    """
    products = [each for each in plan.products if each.skipped is None]
    kinds = [_kind(plan, each) for each in products]
    paths = [
        folder / f"{product_root(Path(each.output))}_{kind}_asn.json"
        for each, kind in zip(products, kinds, strict=True)
    ]
    for path in paths:
        if path.exists() and not overwrite:
            raise OutputExistsError(
                f"{path}: exists already; choose another folder, or replace it (--overwrite)"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for product, kind, path in zip(products, kinds, paths, strict=True):
        content = {
            "asn_type": kind,
            "asn_rule": f"offsky plan --from {plan.pairing.source}",
            "code_version": made_by,
            "program": "noprogram",
            "asn_id": "a3001",
            "asn_pool": "none",
            "products": [_product(product, folder.absolute())],
        }
        with atomic_output(path, overwrite=overwrite) as file:
            file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return paths


def _kind(plan: Plan, product: PlannedProduct) -> str:
    target = plan.file_of.get(product.target)
    exp_type = ((target and target.exp_type) or "").upper()
    return "spec2" if any(word in exp_type for word in _SPECTRA) else "image2"


def _product(product: PlannedProduct, folder: Path) -> dict[str, Any]:
    imprints = dict.fromkeys(path for of_one in product.imprints for path in of_one)
    members = [
        (product.target, "science"),
        *((path, "background") for path in product.backgrounds),
        *((path, "imprint") for path in imprints),
    ]
    return {
        "name": product_root(Path(product.output)),
        "members": [
            {"expname": _name(Path(path), folder), "exptype": kind} for path, kind in members
        ],
    }


def _name(path: Path, folder: Path) -> str:
    return path.name if path.parent == folder else str(path)
