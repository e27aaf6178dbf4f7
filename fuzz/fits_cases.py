"""Cases of damaged FITS files, through the doors that take them."""

import json
from random import Random
from typing import Any

from fuzz import damage
from fuzz.case import Case
from fuzz.exposures import KINDS, MASKS, WEIGHTS, exposure, mask

TARGET, BACKGROUNDS, MASK = "e0_rate.fits", ("e1_rate.fits", "e2_rate.fits"), "m.fits"


def make(chance: Random) -> Case:
    """Make a case: one exposure of two or three is damaged, or the mask."""
    kind = chance.choices(KINDS, WEIGHTS)[0]
    others = kind if chance.random() < 0.5 else "cube" if kind == "cube" else "plain"
    names = [TARGET, *BACKGROUNDS[: chance.choice((1, 1, 2))]]
    files = {name: exposure(i, others) for i, name in enumerate(names)}
    door = chance.choices(("file", "average", "association", "programme"), (16, 2, 2, 1))[0]
    call: dict[str, Any] = {"target": TARGET, "backgrounds": names[1:], "options": {}}
    if chance.random() < 0.2:
        call["options"] = {"errors": "propagate"}
    if door == "file" and chance.random() < 0.1:
        call["combined"] = "c.fits"
    if door == "average":
        call["target"] = None
        del files[names.pop(0)]
    if door in ("file", "average") and chance.random() < 0.08:
        call["mask"] = MASK
        files[MASK], done = damage.damaged(chance, mask(chance.choice(MASKS)))
        return Case(door, files, call, f"mask of {others}: {done}")
    name = chance.choice(names)
    content, done = damage.damaged(chance, exposure(int(name[1]), kind))
    if chance.random() < 0.04:
        content, more = damage.zipped(chance, content)
        done = f"{done}, {more}"
    files[name] = content
    if door in ("association", "programme"):
        files["a.json"] = association(names)
    return Case(door, files, call, f"{name}, {kind}: {done}")


def association(names: list[str]) -> bytes:
    """Return an association of a target and its backgrounds."""
    members = [
        {"expname": name, "exptype": "background" if i else "science"}
        for i, name in enumerate(names)
    ]
    content = {
        "asn_type": "image2",
        "asn_rule": "DMSLevel2bBase",
        "asn_pool": "none",
        "program": "01234",
        "products": [{"name": "e0", "members": members}],
    }
    return json.dumps(content, indent=1).encode()
