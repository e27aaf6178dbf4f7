"""The rules that find each target's backgrounds from headers alone: pure."""

from collections.abc import Sequence
from dataclasses import replace

from offsky.selection.alike import ByConfiguration
from offsky.selection.examined import Examined, Paired
from offsky.selection.limits import choose
from offsky.selection.pairing import Pairing
from offsky.selection.precedents import Precedents
from offsky.selection.suitability import Policy


def choose_dedicated(
    exposures: Sequence[Examined], pairing: Pairing, policy: Policy
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

    Returns
    -------
    list of Paired
        One for each exposure whose BKGDTARG is not true.
    """
    exposures = [each for each in exposures if not each.metadata.is_imprint]
    backgrounds = ByConfiguration([each for each in exposures if each.metadata.bkgdtarg])
    targets = [each for each in exposures if not each.metadata.bkgdtarg]
    precedents = Precedents(policy)
    return [
        choose(
            target,
            backgrounds.like(target),
            pairing,
            policy,
            none="no dedicated background (BKGDTARG) of its configuration",
            precedents=precedents,
        )
        for target in targets
    ]


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
    patterns: dict[object, list[Examined]] = {}
    targets = [
        (each, _pattern(each))
        for each in exposures
        if not each.metadata.bkgdtarg and not each.metadata.is_imprint
    ]
    for target, key in targets:
        patterns.setdefault(key, []).append(target)
    numbers = {key: number for number, key in enumerate(patterns)}
    precedents = Precedents(policy)
    found = []
    for target, key in targets:
        if key is None:
            missing = "its header does not say its programme, observation and visit group"
            found.append(Paired(target.path, skipped=missing))
            continue
        others = [each for each in patterns[key] if not _is_own(target, each)]
        paired = choose(
            target, others, pairing, policy, none="alone in its pattern", precedents=precedents
        )
        found.append(replace(paired, pattern=numbers[key]))
    return found


def _is_own(target: Examined, other: Examined) -> bool:
    """Tell whether an exposure is the target, or another segment of the target's exposure."""
    ours, theirs = target.metadata, other.metadata
    if other is target:
        return True
    if ours.segment is None or ours.segment == theirs.segment:
        return False
    return ours.identity is not None and ours.identity == theirs.identity


def _pattern(exposure: Examined) -> object:
    """Return what the exposures of one nod or dither pattern have in common."""
    m = exposure.metadata
    if m.program is None or m.observation is None or m.visit_group is None:
        return None
    window = (exposure.candidate.placement.shape, m.xstart, m.ystart, m.xsize, m.ysize)
    return (m.program, m.observation, m.visit_group, exposure.configuration, window)
