"""Make a plan: from associations, folders and exposure files to products and groups."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from offsky.errors import ExposureError, ParameterError
from offsky.io.association import read_association
from offsky.io.json_text import parse_json
from offsky.io.mask_choice import masks_of_products
from offsky.io.names import product_name
from offsky.io.product import product_ending
from offsky.io.regular import read_text
from offsky.options import Options
from offsky.programme.imprints import add_imprints
from offsky.programme.inputs import Files, check_there, names_of, unreadable
from offsky.programme.plan import (
    Plan,
    PlannedProduct,
    absolute,
    group_products,
    merge_groups,
)
from offsky.programme.plan_json import is_plan
from offsky.programme.plan_reader import plan_of
from offsky.programme.rules import Drafts, by_rule, from_table
from offsky.selection.examined import Examined, Paired
from offsky.selection.imprints import uses_imprints
from offsky.selection.limits import choose
from offsky.selection.pairing import Pairing
from offsky.selection.suitability import Policy
from offsky.subtraction import Subtraction

log = logging.getLogger(__name__)


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
    imprints: str = "use",
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
    imprints : str
        "use" for the imprints of associations, or among the exposures; or "ignore".

    Returns
    -------
    Plan

    Raises
    ------
    OffskyError
        If an input cannot be used, or nothing was found.
    """
    uses = uses_imprints(imprints)
    policy = Policy(force=force)
    files = Files(policy, Subtraction.of(options))
    left_out: list[tuple[str, str]] = []
    check_there(inputs)
    members: list[list[Examined]] = []
    if pairing.source == "associations":
        of_associations, members = _from_associations(inputs, files, pairing, allow_outside, uses)
        made = Drafts(of_associations)
    elif pairing.source == "table":
        made = from_table(inputs, files, pairing, suffix)
    else:
        made = by_rule(inputs, files, pairing, suffix, left_out)
    drafts = made.products
    named = _paths_of(paired for _, paired in drafts)
    among = [each for each in made.exposures if each.metadata.is_imprint]
    if not drafts:
        raise ParameterError(
            f"{names_of(inputs)}: no target among {len(files.examined)} exposures; expected some "
            "whose BKGDTARG is not true"
        )
    of_products = _masks(made, masks or {}, mask_dir, named)
    products = tuple(
        PlannedProduct(
            product_name(root, files.planned[paired.target].shape, product_ending(paired.target)),
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
    if uses:
        products = add_imprints(products, files.examined, among, members)
    used = {path for product in products for of_one in product.imprints for path in of_one}
    left_out += [
        (each.path, _why_left_out(each))
        for each in made.exposures
        if each.path not in named and each.path not in used
    ]
    _refuse_same_outputs(products)
    patterns: dict[int, list[int]] = {}
    for i, (_, paired) in enumerate(drafts):
        if paired.pattern is not None and paired.skipped is None:
            patterns.setdefault(paired.pattern, []).append(i)
    groups = merge_groups(group_products(products), patterns.values())
    wanted = used | _paths_of(products)
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
        content = parse_json(read_text(path))
    except (OSError, ValueError):
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
    inputs: Sequence[Path],
    files: Files,
    pairing: Pairing,
    allow_outside: bool,
    uses_imprints: bool,
) -> tuple[list[tuple[str, Paired]], list[list[Examined]]]:
    """Return products' names and backgrounds as associations give them, and their imprints."""
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
            f"{names_of(inputs)}: no association (*_asn.json); say how products are made of "
            "exposures: --from dedicated, nods or dithers"
        )
    drafts = []
    imprints: list[list[Examined]] = []
    for association in associations:
        for product in read_association(association, allow_outside=allow_outside):
            backgrounds = product.backgrounds
            imprints.append([])
            members = product.imprints if uses_imprints else ()
            try:
                examined = [files.examine(path) for path in (product.target, *backgrounds)]
                imprints[-1] += [files.examine(path) for path in members]
            except ExposureError as error:
                paths = tuple(absolute(path) for path in backgrounds)
                for path in (product.target, *backgrounds):
                    files.planned.setdefault(absolute(path), unreadable(path))
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
    return drafts, imprints


def _masks(
    made: Drafts, masks: Mapping[str, Any], mask_dir: Path | None, named: Iterable[str]
) -> list[tuple[Any, ...]]:
    """Return the masks of each product's backgrounds."""
    if not any(made.masks):
        return masks_of_products(
            [paired.backgrounds for _, paired in made.products],
            masks,
            mask_dir,
            unused=list(named),
        )
    if masks or mask_dir is not None:
        raise ParameterError("the table has masks, and so has the command; give them once")
    lists = [
        tuple(of.get(path) for path in paired.backgrounds)
        for (_, paired), of in zip(made.products, made.masks, strict=True)
    ]
    return [found if any(found) else () for found in lists]


def _why_left_out(exposure: Examined) -> str:
    if exposure.metadata.is_imprint:
        return "an imprint (IS_IMPRT), neither target nor background"
    return "no target's background" if exposure.metadata.bkgdtarg else "not used"


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


def _refuse_same_outputs(products: Sequence[PlannedProduct]) -> None:
    names = Counter(product.output for product in products)
    for name, n in names.items():
        if n > 1:
            twice = [product.target for product in products if product.output == name]
            raise ParameterError(
                f"{name}: would be the output of {' and '.join(twice[:2])}; plan them apart, for "
                "folders of their own"
            )
