"""Make a plan: from associations, folders and exposure files to products and groups."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offsky.errors import ExposureError, ParameterError
from offsky.io.association import read_association
from offsky.io.files import exposure_endings, open_exposure
from offsky.io.mask import masks_of_products
from offsky.io.names import product_name, product_root
from offsky.io.product import FileProduct, product_ending
from offsky.options import Options
from offsky.programme.plan import (
    Plan,
    PlannedFile,
    PlannedProduct,
    absolute,
    group_products,
    merge_groups,
)
from offsky.programme.plan_json import is_plan, parse_plan
from offsky.selection.choose import candidate_of
from offsky.selection.pairing import (
    Choice,
    Examined,
    Rule,
    choose,
    choose_dedicated,
    choose_others,
)
from offsky.selection.suitability import Policy
from offsky.subtraction import Subtraction
from offsky.values.exposure import Wanted

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

    def examine(self, path: Path) -> Examined:
        """Read a file's headers; raise ExposureError if it is no exposure."""
        key = absolute(path)
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
    rule: Rule,
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
    rule : Rule
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
    if rule.source == "associations":
        drafts = _from_associations(inputs, files, rule, allow_outside)
    else:
        exposures = _exposures(inputs, files, suffix, left_out)
        _refuse_two_stages(exposures)
        by_rule = choose_dedicated if rule.source == "dedicated" else choose_others
        drafts = [
            (product_root(Path(choice.target)), choice)
            for choice in by_rule(exposures, rule, policy)
        ]
        used = {path for _, c in drafts for path in (c.target, *c.backgrounds)}
        dropped = {path for _, c in drafts for path, _ in c.dropped}
        left_out += [
            (each.path, "no target's background" if each.metadata.bkgdtarg else "not used")
            for each in exposures
            if each.path not in used | dropped
        ]
    if not drafts:
        raise ParameterError(
            f"{_named(inputs)}: no target among {len(files.examined)} exposures; expected some "
            "whose BKGDTARG is not true"
        )
    of_products = masks_of_products(
        [choice.backgrounds for _, choice in drafts],
        masks or {},
        mask_dir,
        unused=[path for _, choice in drafts for path, _ in choice.dropped],
    )
    products = tuple(
        PlannedProduct(
            product_name(root, _shape(files, choice.target), product_ending(choice.target)),
            choice.target,
            choice.backgrounds,
            choice.dropped,
            options,
            force,
            choice.skipped,
            choice.problem,
            tuple(None if mask is None else absolute(Path(mask)) for mask in of_product),
        )
        for (root, choice), of_product in zip(drafts, of_products, strict=True)
    )
    _refuse_same_outputs(products)
    patterns: dict[int, list[int]] = {}
    for i, (_, choice) in enumerate(drafts):
        if choice.pattern is not None and choice.skipped is None:
            patterns.setdefault(choice.pattern, []).append(i)
    groups = merge_groups(group_products(products), patterns.values())
    wanted = {path for product in products for path in _all_paths(product)}
    return Plan(
        rule,
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
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return parse_plan(text, str(path)) if is_plan(text) else None


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
    inputs: Sequence[Path], files: _Files, rule: Rule, allow_outside: bool
) -> list[tuple[str, Choice]]:
    """Return products' names and choices, as associations give them."""
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
            target, backgrounds = absolute(product.target), product.backgrounds
            try:
                examined = [files.examine(path) for path in (product.target, *backgrounds)]
            except ExposureError as error:
                paths = tuple(absolute(path) for path in backgrounds)
                for path in (product.target, *backgrounds):
                    files.planned.setdefault(absolute(path), _unreadable(path))
                drafts.append((product.name, Choice(target, paths, problem=str(error))))
                continue
            choice = choose(examined[0], examined[1:], rule, files.policy, as_written=True)
            drafts.append((product.name, choice))
    return drafts


def _exposures(
    inputs: Sequence[Path], files: _Files, suffix: str | None, left_out: list[tuple[str, str]]
) -> list[Examined]:
    """Examine all exposures among the inputs, in the order of their paths."""
    found: dict[str, Examined] = {}
    endings = exposure_endings()
    for path in inputs:
        if not path.is_dir():
            if path.suffix.lower() == ".json":
                raise ParameterError(
                    f"{path}: an association says itself how its products are made; leave out "
                    "--from, or give exposures"
                )
            found[absolute(path)] = files.examine(path)
            continue
        for entry in sorted(path.iterdir()):
            if not entry.is_file() or not entry.name.lower().endswith(endings):
                continue
            ending = entry.name.split(".")[0].rpartition("_")[2]
            if entry.name.startswith(".") or ending in _PRODUCT_SUFFIXES:
                continue
            if suffix is not None and ending != suffix.lstrip("_"):
                continue
            try:
                found[absolute(entry)] = files.examine(entry)
            except ExposureError as error:
                log.warning("left out: %s", error)
                left_out.append((absolute(entry), str(error).removeprefix(f"{entry}: ")))
    if not found:
        raise ParameterError(f"{_named(inputs)}: no exposures found; name files or their folders")
    return [found[key] for key in sorted(found)]


def _examine(path: Path, how: Subtraction) -> tuple[Examined, PlannedFile]:
    with closing(open_exposure(path, variances=how.changes_errors)) as exposure:
        status = path.stat()
        m = exposure.metadata
        product = FileProduct(Path(path.name))
        planned = PlannedFile(
            absolute(path),
            status.st_size,
            status.st_mtime_ns,
            exposure.shape,
            exposure.row_bytes(Wanted(err=True, variances=how.propagate)),
            exposure.held_bytes,
            product.held_bytes(exposure, how),
            0 if m.xstart is None else int(m.xstart) - 1,
            0 if m.ystart is None else int(m.ystart) - 1,
        )
        examined = Examined(absolute(path), candidate_of(exposure))
    return examined, planned


def _unreadable(path: Path) -> PlannedFile:
    try:
        status = path.stat()
    except OSError:
        return PlannedFile(absolute(path), 0, 0)
    return PlannedFile(absolute(path), status.st_size, status.st_mtime_ns)


def _shape(files: _Files, path: str) -> tuple[int, ...]:
    return files.planned[path].shape


def _all_paths(product: PlannedProduct) -> Iterable[str]:
    return (*product.inputs, *(path for path, _ in product.dropped))


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
        other = seen.setdefault((identity, window), exposure)
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
