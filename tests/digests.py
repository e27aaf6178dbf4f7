"""Digests of products: what of them may never change, in a few characters an extension."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

DIGESTS = Path(__file__).with_name("digests.json")
EXTENSIONS = ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT", "N_KEPT", "BKGINPUT")
# In a model by their names there.
_IN_TREE = {
    "SCI": "data",
    "ERR": "err",
    "DQ": "dq",
    "VAR_POISSON": "var_poisson",
    "VAR_RNOISE": "var_rnoise",
    "VAR_FLAT": "var_flat",
}
_WINDOW = {
    "SUBSTRT1": "xstart",
    "SUBSTRT2": "ystart",
    "SUBSIZE1": "xsize",
    "SUBSIZE2": "ysize",
}

Digest = dict[str, Any]


def array_digest(array: Any) -> str:
    """Return the first 16 digits of SHA-256 of an array.

    Its shape and type count, not its byte order nor the bits of its NaN.
    """
    array = np.asarray(array)
    kind = array.dtype.newbyteorder(">")
    plain = np.array(array, dtype=kind, order="C")
    if kind.kind == "f":
        plain[np.isnan(plain)] = np.nan
    told = f"{kind.str} {plain.shape} ".encode()
    return hashlib.sha256(told + plain.tobytes()).hexdigest()[:16]


def table_digest(table: Any) -> str:
    """Return the digest of a table, column by column."""
    told = [f"{name} {array_digest(table[name])}" for name in table.dtype.names]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def product_digest(path: Path) -> Digest:
    """Return the digest of a product.

    Returns
    -------
    dict
        The digest of each extension of `EXTENSIONS` that is there; "extensions", the names of all
        in order; "history", the lines that are offsky's; and "cards": S_BKDSUB, those that begin
        with OFF (but OFFVER), those of the window, and the unit of SCI and ERR.
    """
    return _of_asdf(path) if path.suffix == ".asdf" else _of_fits(path)


def _of_fits(path: Path) -> Digest:
    found: Digest = {}
    with fits.open(path, memmap=False) as hdus:
        header = hdus[0].header
        for hdu in hdus[1:]:
            if hdu.name in EXTENSIONS:
                is_table = hdu.name == "BKGINPUT"
                found[hdu.name] = table_digest(hdu.data) if is_table else array_digest(hdu.data)
        units = {
            f"BUNIT of {name}": hdus[name].header.get("BUNIT")
            for name in ("SCI", "ERR")
            if name in hdus
        }
        cards = {key: header[key] for key in header if key == "S_BKDSUB" or key in _WINDOW}
        cards |= {key: header[key] for key in header if key.startswith("OFF")}
        found["extensions"] = " ".join(hdu.name for hdu in hdus)
        found["history"] = _history(header.get("HISTORY", []))
    return _finished(found, cards | units)


def _of_asdf(path: Path) -> Digest:
    import asdf

    with asdf.open(path, memmap=False) as file:
        tree = file.tree
        found: Digest = {
            name: array_digest(tree[key]) for name, key in _IN_TREE.items() if key in tree
        }
        meta, extra = tree["meta"], tree.get("extra_fits", {}).get("PRIMARY", {})
        cards = {key: value for key, value, _ in extra.get("header", []) if key[:3] == "OFF"}
        cards["S_BKDSUB"] = meta["cal_step"]["bkg_subtract"]
        cards |= {key: meta["subarray"][name] for key, name in _WINDOW.items()}
        cards |= {"BUNIT of SCI": meta["bunit_data"], "BUNIT of ERR": meta["bunit_err"]}
        entries = tree.get("history", {}).get("entries", [])
        found["history"] = _history(entry["description"] for entry in entries)
    return _finished(found, cards)


def _history(lines: Iterable[str]) -> str:
    """Return the digest of offsky's lines, and how many there are."""
    ours = [str(line) for line in lines if str(line).startswith("offsky")]
    return f"{len(ours)} {hashlib.sha256(chr(10).join(ours).encode()).hexdigest()[:16]}"


def _finished(found: Digest, cards: dict[str, Any]) -> Digest:
    cards.pop("OFFVER", None)
    cards.pop("OFFRUN", None)
    if cards.get("OFFSCERR") is not None:
        # Its last digits hang on the order in which threads add.
        cards["OFFSCERR"] = float(f"{cards['OFFSCERR']:.10g}")
    # As JSON gives them back.
    found["cards"] = json.loads(json.dumps(dict(sorted(cards.items()))))
    return found


def differences(found: Digest, expected: Digest, *, leave_out: Iterable[str] = ()) -> list[str]:
    """Return the names of what differs: extensions, and cards with their values."""
    left_out = {"cards", *leave_out}
    names = sorted((found.keys() | expected.keys()) - left_out)
    differ = [
        f"{name}: {found.get(name)}, not {expected.get(name)}"
        for name in names
        if found.get(name) != expected.get(name)
    ]
    new, old = found["cards"], expected["cards"]
    return differ + [
        f"{key}: {new.get(key)!r}, not {old.get(key)!r}"
        for key in sorted((new.keys() | old.keys()) - left_out)
        if new.get(key) != old.get(key)
    ]


def read_digests() -> dict[str, list[Digest]]:
    """Read the digests kept in the repository: one for each job of a case."""
    content: dict[str, list[Digest]] = json.loads(DIGESTS.read_text(encoding="utf-8"))
    return content


def write_digests(digests: dict[str, list[Digest]]) -> None:
    """Write the digests, a line for each job, so that changes show where they are."""
    cases = []
    for case in digests:
        jobs = ",\n  ".join(json.dumps(digest) for digest in digests[case])
        cases.append(f"{json.dumps(case)}: [\n  {jobs}\n]")
    DIGESTS.write_text("{\n" + ",\n".join(cases) + "\n}\n", encoding="utf-8")
