"""Make a plan: from associations, folders and exposure files to products and groups."""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offsky.errors import ExposureError, ParameterError
from offsky.io.association import read_association
from offsky.io.files import exposure_endings, open_exposure
from offsky.io.mask_choice import masks_of_products
from offsky.io.names import product_name, product_root
from offsky.io.product import FileProduct, product_ending
from offsky.io.regular import read_text
from offsky.options import Options
from offsky.programme.plan import (
    Plan,
    PlannedFile,
    PlannedProduct,
    absolute,
    group_products,
    merge_groups,
)
from offsky.programme.plan_json import is_plan, plan_of
from offsky.selection.choose import candidate_of
from offsky.selection.close import warn_of_close
from offsky.selection.examined import Examined, Paired
from offsky.selection.limits import choose
from offsky.selection.pairing import Pairing
from offsky.selection.precedents import Precedents
from offsky.selection.rules import choose_dedicated, choose_others
from offsky.selection.suitability import Policy
from offsky.subtraction import Subtraction
from offsky.values.exposure import Wanted
from offsky.values.metadata import KEYWORDS

log = logging.getLogger(__name__)

# What offsky and the pipeline write from exposures; never their inputs in a folder.
_PRODUCT_SUFFIXES = ("bsub", "bsubints", "combinedbackground")


@dataclass
class _Files:
    """Input files, each examined once."""

    policy: Policy
    how: Subtraction
    planned: dict[str, PlannedFile] = field(default_factory=dict)
    examined: dict[str, Examined] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    precedents: Precedents = field(init=False)
    _keys: dict[Path, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.precedents = Precedents(self.policy)

    def examine(self, path: Path) -> Examined:
        """Read a file's headers; raise ExposureError if it is no exposure."""
        key = self._keys.get(path)
        if key is None:
            key = self._keys[path] = absolute(path)
        if key in self.broken:
            raise ExposureError(self.broken[key])
        if key not in self.examined:
            try:
                self.examined[key], self.planned[key] = _examine(path, self.how)
            except ExposureError as error:
                self.broken[key] = str(error)
                self.planned[key] = _unreadable(path)
                raise
        return self.examined[key]


def make_plan(
    inputs: Sequence[Path],
    *,
    pairing: Pairing,
    options: Options,
    force: bool = False,
    suffix: str | None = None,
    allow_outside: bool = False,
    masks: Mapping[str, Any] | None = None,
    mask_dir: Path | None = None,
) -> Plan:
    """Plan a programme.

    Parameters
    ----------
    inputs : sequence of Path
        Association files, folders and exposure files.
    pairing : Pairing
        How products are made from them.
    options : Options
        How to average.
    force : bool
        Use what a single run would use with ``--force`` only.
    suffix : str or None
        Of folders take only exposures whose names end so, such as "rate".
    allow_outside : bool
        Whether members of associations may lie outside their folder.
    masks : mapping of str to path, or None
        Masks by the names or paths of their backgrounds.
    mask_dir : Path or None
        A folder in which the mask of ``<root>_rate.fits`` is ``<root>_mask.fits``.

    Returns
    -------
    Plan

    Raises
    ------
    OffskyError
        If an input cannot be used, or nothing was found.
    """
    policy = Policy(force=force)
    files = _Files(policy, Subtraction.of(options))
    left_out: list[tuple[str, str]] = []
    if pairing.source == "associations":
        drafts = _from_associations(inputs, files, pairing, allow_outside)
    else:
        exposures = _exposures(inputs, files, suffix, left_out)
        _refuse_two_stages(exposures)
        by_rule = choose_dedicated if pairing.source == "dedicated" else choose_others
        found = by_rule(exposures, pairing, policy)
        if pairing.source == "dithers":
            for warning in warn_of_close({each.path: each for each in exposures}, found):
                log.warning("%s", warning)
        drafts = [(product_root(Path(paired.target)), paired) for paired in found]
        named = _paths_of(paired for _, paired in drafts)
        left_out += [
            (each.path, _why_left_out(each)) for each in exposures if each.path not in named
        ]
    if not drafts:
        raise ParameterError(
            f"{_named(inputs)}: no target among {len(files.examined)} exposures; expected some "
            "whose BKGDTARG is not true"
        )
    of_products = masks_of_products(
        [paired.backgrounds for _, paired in drafts],
        masks or {},
        mask_dir,
        unused=list(_paths_of(paired for _, paired in drafts)),
    )
    products = tuple(
        PlannedProduct(
            product_name(root, _shape(files, paired.target), product_ending(paired.target)),
            paired.target,
            paired.backgrounds,
            paired.dropped,
            options,
            force,
            paired.skipped,
            paired.problem,
            tuple(None if mask is None else absolute(Path(mask)) for mask in of_product),
        )
        for (root, paired), of_product in zip(drafts, of_products, strict=True)
    )
    _refuse_same_outputs(products)
    patterns: dict[int, list[int]] = {}
    for i, (_, paired) in enumerate(drafts):
        if paired.pattern is not None and paired.skipped is None:
            patterns.setdefault(paired.pattern, []).append(i)
    groups = merge_groups(group_products(products), patterns.values())
    wanted = _paths_of(products)
    return Plan(
        pairing,
        tuple(file for path, file in sorted(files.planned.items()) if path in wanted),
        products,
        groups,
        tuple(left_out),
    )


def read_plan(path: Path) -> Plan | None:
    """Read a plan; None where the file is something else.

    Raises
    ------
    ParameterError
        If it is a plan that cannot be used.
    """
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return None
    return plan_of(content, str(path)) if is_plan(content) else None


def changed_since(plan: Plan) -> list[str]:
    """Return the inputs that are not what they were when the plan was made."""
    changed = []
    for file in plan.files:
        try:
            status = Path(file.path).stat()
        except OSError:
            changed.append(file.path)
            continue
        if (status.st_size, status.st_mtime_ns) != (file.n_bytes, file.modified_ns):
            changed.append(file.path)
    return changed


def _from_associations(
    inputs: Sequence[Path], files: _Files, pairing: Pairing, allow_outside: bool
) -> list[tuple[str, Paired]]:
    """Return products' names and backgrounds, as associations give them."""
    associations: list[Path] = []
    for path in inputs:
        if path.is_dir():
            associations += sorted(path.glob("*_asn.json"))
        elif path.suffix.lower() == ".json":
            associations.append(path)
        else:
            raise ParameterError(
                f"{path}: not an association; say how products are made of exposures: --from "
                "dedicated, nods or dithers"
            )
    if not associations:
        raise ParameterError(
            f"{_named(inputs)}: no association (*_asn.json); say how products are made of "
            "exposures: --from dedicated, nods or dithers"
        )
    drafts = []
    for association in associations:
        for product in read_association(association, allow_outside=allow_outside):
            backgrounds = product.backgrounds
            try:
                examined = [files.examine(path) for path in (product.target, *backgrounds)]
            except ExposureError as error:
                paths = tuple(absolute(path) for path in backgrounds)
                for path in (product.target, *backgrounds):
                    files.planned.setdefault(absolute(path), _unreadable(path))
                target = absolute(product.target)
                drafts.append((product.name, Paired(target, paths, problem=str(error))))
                continue
            paired = choose(
                examined[0],
                examined[1:],
                pairing,
                files.policy,
                as_written=True,
                precedents=files.precedents,
            )
            drafts.append((product.name, paired))
    return drafts


def _exposures(
    inputs: Sequence[Path], files: _Files, suffix: str | None, left_out: list[tuple[str, str]]
) -> list[Examined]:
    """Examine all exposures among the inputs, in the order of their paths."""
    found: dict[str, Examined] = {}
    for path in inputs:
        if not path.is_dir():
            if path.suffix.lower() == ".json":
                raise ParameterError(
                    f"{path}: an association says itself how its products are made; leave out "
                    "--from, or give exposures"
                )
            found[absolute(path)] = files.examine(path)
            continue
        for entry in _entries(path, suffix):
            try:
                found[absolute(entry)] = files.examine(entry)
            except ExposureError as error:
                log.warning("left out: %s", error)
                left_out.append((absolute(entry), str(error).removeprefix(f"{entry}: ")))
    for each in found.values():
        odd = dict(each.metadata.odd)
        for name in ("bkgdtarg", "is_imprint"):
            if name in odd:
                log.warning(
                    "%s: %s is %s, no truth value; taken for a target",
                    each.path,
                    KEYWORDS[name],
                    odd[name],
                )
    if not found:
        raise ParameterError(f"{_named(inputs)}: no exposures found; name files or their folders")
    return [found[key] for key in sorted(found)]


def _entries(folder: Path, suffix: str | None) -> list[Path]:
    """Return what may be exposures in a folder; if there is none, in the folders in it.

    Archives deliver each file in a folder of its own.
    """
    with os.scandir(folder) as entries:
        here = list(entries)
    found = sorted(each.name for each in here if _may_be_exposure(each, suffix))
    if found:
        return [folder / name for name in found]
    below = sorted(e.name for e in here if e.is_dir(follow_symlinks=False) and e.name[0] != ".")
    paths = [path for name in below for path in _entries(folder / name, suffix)]
    if paths and below:
        log.info("%s: %d files in its folders", folder, len(paths))
    return paths


def _may_be_exposure(entry: os.DirEntry[str], suffix: str | None) -> bool:
    """Tell by its name whether a folder's entry is to be looked into."""
    if entry.name.startswith(".") or not entry.name.lower().endswith(exposure_endings()):
        return False
    ending = entry.name.split(".")[0].rpartition("_")[2]
    if ending in _PRODUCT_SUFFIXES or (suffix is not None and ending != suffix.lstrip("_")):
        return False
    return entry.is_file()


def _examine(path: Path, how: Subtraction) -> tuple[Examined, PlannedFile]:
    name = absolute(path)
    with closing(open_exposure(path, variances=how.changes_errors)) as exposure:
        candidate = candidate_of(exposure)
        window = candidate.placement.window
        status = path.stat()
        planned = PlannedFile(
            name,
            status.st_size,
            status.st_mtime_ns,
            exposure.shape,
            exposure.row_bytes(Wanted(err=True, variances=how.propagate)),
            exposure.held_bytes,
            FileProduct(Path(path.name)).held_bytes(exposure, how),
            None if window is None else (window.x0 + 1, window.y0 + 1),
        )
    return Examined(name, candidate), planned


def _why_left_out(exposure: Examined) -> str:
    if exposure.metadata.is_imprint:
        return "an imprint (IS_IMPRT), neither target nor background"
    return "no target's background" if exposure.metadata.bkgdtarg else "not used"


def _unreadable(path: Path) -> PlannedFile:
    try:
        status = path.stat()
    except OSError:
        return PlannedFile(absolute(path), 0, 0)
    return PlannedFile(absolute(path), status.st_size, status.st_mtime_ns)


def _shape(files: _Files, path: str) -> tuple[int, ...]:
    return files.planned[path].shape


def _paths_of(products: Iterable[PlannedProduct | Paired]) -> set[str]:
    """Return the files that products are made from or could have been."""
    paths: set[str] = set()
    # Products share lists: each is looked at once.
    lists: dict[int, tuple[str, ...]] = {}
    for product in products:
        paths.add(product.target)
        lists[id(product.backgrounds)] = product.backgrounds
        lists.update((id(entry.among), entry.among) for entry in product.dropped)
    return paths.union(*lists.values())


def _refuse_two_stages(exposures: Sequence[Examined]) -> None:
    """Refuse where a folder holds _rate and _rateints, say, of one exposure."""
    seen: dict[object, Examined] = {}
    for exposure in exposures:
        identity = exposure.metadata.identity
        if identity is None:
            continue
        # Slits cut out of one exposure are told apart by their windows.
        m = exposure.metadata
        window = (m.xstart, m.ystart, m.xsize, m.ysize)
        other = seen.setdefault((identity, m.segment, window), exposure)
        if other is not exposure:
            raise ExposureError(
                f"{exposure.path}: the same exposure as {other.path}; name the files to use, or "
                "the suffix to look for (--suffix rate)"
            )


def _refuse_same_outputs(products: Sequence[PlannedProduct]) -> None:
    names = Counter(product.output for product in products)
    for name, n in names.items():
        if n > 1:
            twice = [product.target for product in products if product.output == name]
            raise ParameterError(
                f"{name}: would be the output of {' and '.join(twice[:2])}; plan them apart, for "
                "folders of their own"
            )


def _named(inputs: Sequence[Path]) -> str:
    shown = ", ".join(str(path) for path in inputs[:3])
    return shown if len(inputs) <= 3 else f"{shown} and {len(inputs) - 3} more"
