"""Drafts of products, by a rule or by a table: their names, targets and backgrounds."""

import glob
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from offsky.errors import ExposureError, MissingFileError, ParameterError
from offsky.io.names import product_root
from offsky.io.table import TableProduct, read_table
from offsky.programme.inputs import (
    Files,
    entries_of,
    find_exposures,
    refuse_two_stages,
    unreadable,
)
from offsky.programme.plan import absolute
from offsky.selection.close import warn_of_close
from offsky.selection.examined import Examined, Paired
from offsky.selection.limits import choose
from offsky.selection.named import check_no_imprint, is_by_header, named_by_header
from offsky.selection.pairing import Pairing
from offsky.selection.rules import choose_dedicated, choose_others

log = logging.getLogger(__name__)


@dataclass
class Drafts:
    """Products before their options, masks and groups are known.

    Attributes
    ----------
    products : list of (str, Paired)
        The root of each product's name, and what it is made of.
    masks : list of dict
        The masks of each product by the paths of their backgrounds, where a table gives them.
    exposures : list of Examined
        All exposures that a rule chose among.
    """

    products: list[tuple[str, Paired]]
    masks: list[dict[str, Path]] = field(default_factory=list)
    exposures: list[Examined] = field(default_factory=list)


def by_rule(
    inputs: Sequence[Path],
    files: Files,
    pairing: Pairing,
    suffix: str | None,
    left_out: list[tuple[str, str]],
) -> Drafts:
    """Return what a rule makes of exposures.

    Parameters
    ----------
    inputs : sequence of Path
        Folders and exposure files.
    files : Files
        Examines them.
    pairing : Pairing
        The rule.
    suffix : str or None
        Of folders take only exposures whose names end so.
    left_out : list of (str, str)
        Gets the files that are not used, each with the reason.
    """
    exposures = find_exposures(inputs, files, suffix, left_out)
    named = None
    if pairing.backgrounds:
        exposures, named = _named(exposures, files, pairing.backgrounds, suffix, left_out)
    refuse_two_stages(exposures)
    if pairing.source == "dedicated":
        found = choose_dedicated(exposures, pairing, files.policy, named)
    else:
        found = choose_others(exposures, pairing, files.policy)
    if pairing.source == "dithers":
        for warning in warn_of_close({each.path: each for each in exposures}, found):
            log.warning("%s", warning)
    roots = [product_root(Path(paired.target)) for paired in found]
    return Drafts(list(zip(roots, found, strict=True)), exposures=exposures)


def _named(
    exposures: list[Examined],
    files: Files,
    backgrounds: Sequence[str],
    suffix: str | None,
    left_out: list[tuple[str, str]],
) -> tuple[list[Examined], dict[str, bool]]:
    """Return all exposures, and the named backgrounds among them.

    Those that are named by their observation, whose number belongs to a programme, serve its
    targets only.
    """
    named: dict[str, bool] = {}
    everything = {each.path: each for each in exposures}
    for what in backgrounds:
        if is_by_header(what):
            any_programme = what.lower().startswith("target:")
            found = named_by_header(what, exposures)
        else:
            any_programme = True
            found = _in_files(what, exposures, files, suffix, left_out)
        for each in found:
            everything[each.path] = each
            named[each.path] = named.get(each.path, False) or any_programme
    return [everything[path] for path in sorted(everything)], named


def _in_files(
    what: str,
    exposures: Sequence[Examined],
    files: Files,
    suffix: str | None,
    left_out: list[tuple[str, str]],
) -> list[Examined]:
    """Return the exposures of a folder, a file, or a pattern of names."""
    if Path(what).is_dir():
        within = find_exposures([Path(what)], files, suffix, left_out)
        return [each for each in within if not each.metadata.is_imprint]
    if Path(what).exists():
        one = [files.examine(Path(what))]
        check_no_imprint(what, one)
        return one
    by_name = [each for each in exposures if fnmatch(Path(each.path).name, what)]
    known = {each.path for each in by_name}
    on_disk = [Path(path) for path in sorted(glob.glob(what))]  # noqa: PTH207
    found = by_name + [files.examine(p) for p in on_disk if absolute(p) not in known]
    if not found:
        raise MissingFileError(
            f"backgrounds {what!r}: no such file, folder or exposure among the inputs; expected "
            "one of these, a pattern of names, obs:NUMBER or target:NAME"
        )
    return [each for each in found if not each.metadata.is_imprint]


def from_table(
    inputs: Sequence[Path], files: Files, pairing: Pairing, suffix: str | None
) -> Drafts:
    """Return the products of a table.

    Parameters
    ----------
    inputs : sequence of Path
        Folders and files whose exposures the table may name without a folder.
    files, pairing, suffix
        As for `by_rule`.
    """
    known: dict[str, list[Path]] = {}
    for path in inputs:
        for entry in entries_of(path, suffix) if path.is_dir() else [path]:
            known.setdefault(entry.name, []).append(entry)
    if pairing.table is None:
        raise RuntimeError("a pairing from a table, without one")
    products = read_table(Path(pairing.table), known)
    return Drafts(
        [(product.name, _as_written(product, files, pairing)) for product in products],
        [
            {
                absolute(background): mask
                for background, mask in zip(product.backgrounds, product.masks, strict=False)
                if mask is not None
            }
            for product in products
        ],
    )


def _as_written(product: TableProduct, files: Files, pairing: Pairing) -> Paired:
    paths = (product.target, *product.backgrounds)
    try:
        target, *backgrounds = [files.examine(path) for path in paths]
    except ExposureError as error:
        for path in paths:
            files.planned.setdefault(absolute(path), unreadable(path))
        return Paired(
            absolute(product.target),
            tuple(absolute(path) for path in product.backgrounds),
            problem=str(error),
        )
    for each in (target, *backgrounds):
        if each.metadata.is_imprint:
            raise ParameterError(
                f"{pairing.table}: {each.name} is an imprint (IS_IMPRT), neither target nor "
                "background; leave out its rows"
            )
    return choose(
        target, backgrounds, pairing, files.policy, as_written=True, precedents=files.precedents
    )
