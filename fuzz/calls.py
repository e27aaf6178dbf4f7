"""How offsky is called: names of outputs, arguments, and public functions with odd values."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import offsky
from fuzz.case import Case
from fuzz.exposures import exposure, mask

DOCUMENT, PRODUCTS = "a.json", "out"

# Written as Python, so that a case can be kept; `here` is its folder.
ODD = [
    *("None", "True", "False", "0", "1", "-1", "3", "1.5", "1e400", "-1e400", "float('nan')"),
    *("10**30", "-10**30", "10**400", "2**63", "2**64", "1j", "''", "'x'", "'nan'", "'1e999'"),
    *("'-'", "'.'", "'/'", "'a\\0b'", "'\\udc80'", "'\\x1b[31m'", "'x' * 300", "'/x' * 3000"),
    *("b''", "b'x'", "()", "[]", "{}", "set()", "[1]", "(1, 2)", "['x']", "{'x': 1}", "[None]"),
    *("[[]]", "{'a': {}}", "{1: 2}", "object()", "int", "len", "lambda *x: 1", "range(3)"),
    *("Ellipsis", "NotImplemented", "slice(1)", "np.nan", "np.inf", "np.float32(3)", "np.int8(1)"),
    *("np.True_", "np.zeros(0)", "np.zeros((6, 8))", "np.zeros((2, 6, 8))", "np.ones(3, bool)"),
    *("np.array('x')", "np.array(None)", "np.array([1, 'x'], object)", "np.datetime64('now')"),
    *("np.ma.masked", "np.zeros(2, [('a', 'i4')])", "Path('.')", "Path('x')", "here"),
    *("here / 'e0_rate.fits'", "[here / 'e1_rate.fits']", "here / 'a.json'", "open"),
    *("iter([1])", "here / 'x'"),
    *("'1G'", "'-1G'", "'9' * 5000", "'4 potatoes'", "'sigma'", "'offsky'", "'jwst'", "'none'"),
    *("offsky", "offsky.Options()", "offsky.Options", "Exception()", "type('X', (), {})()"),
]  # fmt: skip
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "subtract_file": ("target_path", "background_paths", "output_path", "combined_path"),
    "average_file": ("background_paths", "output_path"),
    "subtract_association": ("association_path", "output_directory", "save_combined"),
    "Options": (),
    "clipped_mean": ("sci", "err", "dq", "sigma", "maxiters", "threads"),
    "subtract": ("target", "backgrounds", "combined_path"),
    "average": ("backgrounds",),
}
_CALLED = ("int", "len", "open", "offsky.Options")
_COMMON = ("masks", "mask_dir", "memory", "threads", "progress", "profile", "options", "force")


def as_arguments(options: dict[str, Any]) -> list[str]:
    """Write options as the command line takes them."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def outputs(case: Case) -> set[str]:
    """Return the names of all files that a case may make or change."""
    found = {"p.fits", str(case.call.get("combined"))}
    found |= {f"e0_bsub{'ints' * ints}.fits" for ints in (0, 1)} | {"e0_combinedbackground.fits"}
    found |= {f"{PRODUCTS}/.offsky/lock", f"{PRODUCTS}/summary.json"}
    names = case.call.get("outputs", ["e0_bsub.fits", "e0_bsubints.fits"])
    found |= {f"{PRODUCTS}/{name}" for name in names}
    found |= {f"{PRODUCTS}/.offsky/{name}.json" for name in names}
    return found | set(case.call.get("may_make", ()))


def odd_call(chance: Random) -> Case:
    """Make a case of a public function that is given odd values."""
    from dataclasses import fields

    name = chance.choices(list(FUNCTIONS), (6, 3, 3, 4, 4, 2, 1))[0]
    known = list(FUNCTIONS[name])
    if name != "clipped_mean":
        known += [field.name for field in fields(offsky.Options)] * (2 if name == "Options" else 1)
    if name not in ("clipped_mean", "Options"):
        known += _COMMON
    if chance.random() < 0.02 and name != "clipped_mean":
        known.append("no_such_option")
    names = chance.sample(known, min(len(known), chance.choice((1, 1, 1, 2, 3))))
    given = {each: chance.choice(ODD) for each in names}
    if given.get("progress") in _CALLED:
        del given["progress"]  # what it raises is the caller's
    files = {f"e{i}_rate.fits": exposure(i, "plain") for i in range(3)}
    files["m.fits"] = mask("bytes")
    from fuzz.fits_cases import association

    files[DOCUMENT] = association(list(files)[:3])
    call = {"function": name, "given": given}
    return Case("call", files, call, f"{name}({', '.join(f'{k}={v}' for k, v in given.items())})")


def call(how: dict[str, Any], here: Path) -> Any:
    """Call a public function as a case says."""
    names = {"np": np, "offsky": offsky, "Path": Path, "here": here}
    given = {name: eval(text, names) for name, text in how["given"].items()}
    target, backgrounds = here / "e0_rate.fits", [here / "e1_rate.fits", here / "e2_rate.fits"]
    sci = np.arange(96, dtype=np.float32).reshape(2, 6, 8)
    usual: dict[str, dict[str, Any]] = {
        "subtract_file": {
            "target_path": target, "background_paths": backgrounds, "output_path": here / "p.fits",
        },
        "average_file": {"background_paths": backgrounds, "output_path": here / "p.fits"},
        "subtract_association": {
            "association_path": here / DOCUMENT, "output_directory": here,
        },
        "Options": {},
        "clipped_mean": {"sci": sci},
        "subtract": {"target": target, "backgrounds": backgrounds},
        "average": {"backgrounds": backgrounds},
    }  # fmt: skip
    made = getattr(offsky, how["function"])(**{**usual[how["function"]], **given})
    if how["function"] == "subtract_association":
        made = list(made)
        return next((each for each in made if isinstance(each, offsky.OffskyError)), made)
    return made
