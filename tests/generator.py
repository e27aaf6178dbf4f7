"""The JWST pipeline's generator of associations, asked for the backgrounds of bare headers."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from offsky.selection.examined import Examined
from offsky.values.metadata import KEYWORDS

# What is in no header, where a value has to be there.
_ELSEWHERE = {
    "dms_note": "",
    "pntgtype": "science",
    "mostilno": "1",
    "dithptin": "1",
    "tsovisit": "f",
}


def products_of(
    exposures: Sequence[Examined], linked: Sequence[str] = ()
) -> dict[str, dict[str, set[str]]]:
    """Return what the generator makes of exposures.

    Parameters
    ----------
    exposures : sequence of Examined
        The exposures; files are named as the observatory does, by their numbers.
    linked : sequence of str
        OBSERVTN of the observations that the proposal links as background and target.

    Returns
    -------
    dict
        By the target's name, the names of the members of each type but science.
    """
    from jwst.associations import Main

    cli = Main.cli(["--dry-run"], pool=_pool(exposures, linked))
    names = {_file_name(each): each.name for each in exposures}
    found: dict[str, dict[str, set[str]]] = {}
    for association in cli.associations:
        if association["asn_type"] not in ("image2", "spec2"):
            continue
        for product in association["products"]:
            by_type: dict[str, set[str]] = {}
            for member in product["members"]:
                name = names[_root(member["expname"])]
                by_type.setdefault(member["exptype"], set()).add(name)
            (target,) = by_type.pop("science")
            # One made for an observation, another for linked ones: the larger has both.
            known = found.setdefault(target, {})
            for kind, members in by_type.items():
                known.setdefault(kind, set()).update(members)
    return found


def _pool(exposures: Sequence[Examined], linked: Sequence[str]) -> Any:
    from jwst.associations import AssociationPool

    rows = [_row(each, linked) for each in exposures]
    specifications = sorted({_specification(each) for each in exposures})
    targets = sorted({str(each.metadata.proposed_target) for each in exposures})
    columns = sorted({key for row in rows for key in row} | {"expspcin", "targetid"})
    pool = AssociationPool(names=columns, dtype=[object] * len(columns))
    for row, each in zip(rows, exposures, strict=True):
        row["expspcin"] = str(1 + specifications.index(_specification(each)))
        row["targetid"] = str(1 + targets.index(str(each.metadata.proposed_target)))
        pool.add_row({key: row.get(key, "null") for key in columns})
    return pool


def _specification(exposure: Examined) -> tuple[str | None, ...]:
    m = exposure.metadata
    return m.observation, m.visit_group, m.sequence, m.activity


def _row(exposure: Examined, linked: Sequence[str]) -> dict[str, str]:
    m = exposure.metadata
    row = dict(_ELSEWHERE)
    for each in fields(m):
        value = getattr(m, each.name)
        if each.name in KEYWORDS and value is not None:
            text = {True: "t", False: "f"}.get(value) if isinstance(value, bool) else str(value)
            row[KEYWORDS[each.name].lower()] = str(text).lower()
    candidates = [(f"o{m.observation}", "observation")]
    if m.observation in linked:
        candidates.append(("c1000", "background"))
    row |= {
        "filename": f"{_file_name(exposure)}_uncal.fits",
        "asn_candidate": str(candidates),
        "is_imprt": "t" if m.is_imprint else "f",
        "bkgdtarg": "t" if m.bkgdtarg else "f",
        "obs_id": f"v{m.program}{m.observation}",
    }
    return row


def _file_name(exposure: Examined) -> str:
    m = exposure.metadata
    assert m.exposure is not None
    return (
        f"jw{m.program}{m.observation}{m.visit}_{m.visit_group}{m.sequence}{m.activity}_"
        f"{int(m.exposure):05d}_{m.detector}".lower()
    )


def _root(expname: str) -> str:
    return Path(expname).name.rpartition("_")[0]
