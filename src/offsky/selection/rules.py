"""The rules that find each target's backgrounds from headers alone: pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from offsky.selection.alike import ByConfiguration
from offsky.selection.examined import Dropped, Examined, Paired, Pool
from offsky.selection.hints import Hints
from offsky.selection.limits import choose
from offsky.selection.nods import excluded_nods, mode_of, nod_of, why_none
from offsky.selection.pairing import Pairing
from offsky.selection.pairs import Partner, partners, partners_of_positions
from offsky.selection.patterns import Grouping, find_patterns
from offsky.selection.precedents import Precedents
from offsky.selection.suitability import Policy
from offsky.values.metadata import Metadata

_PROGRAMME = ("program", "observation")


def choose_dedicated(
    exposures: Sequence[Examined],
    pairing: Pairing,
    policy: Policy,
    named: Mapping[str, bool] | None = None,
) -> list[Paired]:
    """Give every target the exposures with BKGDTARG true that are like it.

    Parameters
    ----------
    exposures : sequence of Examined
        Targets and backgrounds; imprints (IS_IMPRT true) are left out.
    pairing : Pairing
        Which of them to leave out.
    policy : Policy
        How strict to be.
    named : mapping of str to bool, or None
        The backgrounds by their paths, whatever BKGDTARG says, of every target of the same
        configuration; with whether they serve other programmes too. None for those with
        BKGDTARG true.

    Returns
    -------
    list of Paired
        One for each exposure that is not named, and whose BKGDTARG is not true.
    """
    if named is None:
        dedicated, hints = find_dedicated(exposures, pairing), Hints(exposures).of
    else:
        dedicated, hints = _named(exposures, pairing, named), _none_named
    targets = [
        each for each in exposures if is_target(each) and (named is None or each.path not in named)
    ]
    pools = [dedicated.like(target) for target in targets]
    paired = _paired_with_dedicated(targets, pools) if pairing.pair else {}
    precedents = Precedents(policy)
    return [
        choose(
            target,
            **_candidates(pool.members, pool, paired.get(target.path)),
            pairing=pairing,
            policy=policy,
            none="" if pool.members else hints(target),
            precedents=precedents,
        )
        for target, pool in zip(targets, pools, strict=True)
    ]


def _named(
    exposures: Sequence[Examined], pairing: Pairing, named: Mapping[str, bool]
) -> ByConfiguration:
    members = [each for each in exposures if each.path in named and not each.metadata.is_imprint]
    free = {path for path, any_programme in named.items() if any_programme}
    return ByConfiguration(members, () if pairing.any_programme else ("program",), free)


def _none_named(target: Examined) -> str:
    return "none of the named backgrounds has its configuration"


def _paired_with_dedicated(
    targets: Sequence[Examined], pools: Sequence[Pool]
) -> dict[str, Partner]:
    """Pair the targets that could have the same backgrounds with these."""
    of_pool: dict[int, tuple[Pool, list[Examined]]] = {}
    for target, pool in zip(targets, pools, strict=True):
        of_pool.setdefault(id(pool), (pool, []))[1].append(target)
    found: dict[str, Partner] = {}
    for pool, members in of_pool.values():
        of_targets = partners(members, pool.members)
        found.update({each.path: of_targets[each.path] for each in members})
    return found


def _candidates(
    members: Sequence[Examined], pool: Pool, partner: Partner | None
) -> dict[str, Any]:
    """Return what `choose` chooses among: `members` of a pool, or the target's partner only."""
    if partner is None:
        return {"backgrounds": members, "among": pool.paths}
    if isinstance(partner, str):
        kept, why = [], partner
    else:
        kept, why = [partner], f"paired with {partner.name} (--pair)"
    among = tuple(each.path for each in kept)
    return {"backgrounds": kept, "among": among, "afterwards": (Dropped(why, pool.paths),)}


def is_target(exposure: Examined) -> bool:
    """Tell whether an exposure is neither a dedicated background nor an imprint."""
    return not exposure.metadata.bkgdtarg and not exposure.metadata.is_imprint


def find_dedicated(exposures: Sequence[Examined], pairing: Pairing) -> ByConfiguration:
    """Return the dedicated backgrounds, by what they have in common with their targets."""
    dedicated = [
        each for each in exposures if each.metadata.bkgdtarg and not each.metadata.is_imprint
    ]
    also = ("subarray", "fixed_slit")
    return ByConfiguration(dedicated, also if pairing.any_programme else ("program", *also))


def choose_others(exposures: Sequence[Examined], pairing: Pairing, policy: Policy) -> list[Paired]:
    """Give every target the other exposures of its nod or dither pattern.

    Parameters
    ----------
    exposures : sequence of Examined
        Dedicated backgrounds (BKGDTARG true) and imprints (IS_IMPRT true) are left out.
    pairing : Pairing
        Which of the others to leave out.
    policy : Policy
        How strict to be.

    Returns
    -------
    list of Paired
        One for each of the other exposures, in their order.
    """
    targets = [each for each in exposures if is_target(each)]
    nods = pairing.source == "nods"
    patterns, numbers = find_patterns(targets, partial(_nods if nods else _dithers, pairing))
    if pairing.add_dedicated:
        dedicated = find_dedicated(exposures, pairing)
        patterns = [_with(pattern, dedicated.like(pattern.members[0])) for pattern in patterns]
    exclusions: Callable[[Examined, Pool], Iterator[Dropped]] = _same_nod if nods else _no_others
    paired: dict[str, Partner] = {}
    if pairing.pair:
        for pattern in patterns:
            paired |= partners_of_positions(pattern.members, lambda each: nod_of(each.metadata))
    precedents = Precedents(policy)
    found = []
    for target, number in zip(targets, numbers, strict=True):
        if isinstance(number, str):
            found.append(Paired(target.path, skipped=number))
            continue
        pattern = patterns[number]
        dropped = [*_own_segments(target, pattern), *exclusions(target, pattern)]
        gone = {target.path, *(path for entry in dropped for path in entry.among)}
        others = [each for each in pattern.members if each.path not in gone]
        choice = choose(
            target,
            **_candidates(others, pattern, paired.get(target.path)),
            pairing=pairing,
            policy=policy,
            none="alone in its pattern",
            dropped=dropped,
            precedents=precedents,
        )
        found.append(replace(choice, pattern=number))
    return found


def _nods(pairing: Pairing, m: Metadata) -> Grouping | str:
    """Return what the nods of an exposure have in common, or why it has none."""
    why, mode = why_none(m), mode_of(m)
    if why is not None or mode is None:
        return str(why)
    return _grouping(pairing, (*_PROGRAMME, *mode.groups), ("exp_type", *mode.agree))


def _dithers(pairing: Pairing, m: Metadata) -> Grouping:
    return _grouping(pairing, (*_PROGRAMME, "visit_group"), ())


def _grouping(pairing: Pairing, usual: tuple[str, ...], agree: tuple[str, ...]) -> Grouping:
    adds, wanted = pairing.grouping
    return Grouping((*usual, *wanted) if adds else wanted, agree)


def _with(pattern: Pool, dedicated: Pool) -> Pool:
    return Pool([*pattern.members, *dedicated.members]) if dedicated.members else pattern


def _own_segments(target: Examined, pattern: Pool) -> Iterator[Dropped]:
    """Yield the other segments of the target's exposure."""
    ours = target.metadata
    if ours.segment is None or ours.identity is None:
        return
    own = pattern.part("identity", lambda each: each.metadata.identity)[ours.identity]
    others = pattern.part("segments", lambda each: (each.metadata.identity, each.metadata.segment))
    if len(own) > len(others[ours.identity, ours.segment]):
        yield Dropped("another segment of the target's own exposure (EXSEGNUM)", own)


def _same_nod(target: Examined, pattern: Pool) -> Iterator[Dropped]:
    """Yield the exposures that show the target's source at the same place, or next to it."""
    nods = pattern.part("nod", lambda each: nod_of(each.metadata) if is_target(each) else None)
    for nod, reason in excluded_nods(target.metadata):
        if len(nods.get(nod, ())) > (target.path in nods.get(nod, ())):
            yield Dropped(reason, nods[nod])


def _no_others(target: Examined, pattern: Pool) -> Iterator[Dropped]:
    return iter(())
