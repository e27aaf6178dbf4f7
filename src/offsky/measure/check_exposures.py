"""Checks of the exposures that went into a product: rejection, coverage, readout, history."""

from math import isfinite

import numpy as np

from offsky.measure.judged import Judged
from offsky.measure.structure import quick_median
from offsky.values.facts import ExposureFacts
from offsky.values.finding import Finding, State

# Target and backgrounds that are farther apart saw another sky.
_MOST_DAYS = 30


def check_rejected(judged: Judged) -> Finding:
    """Compare the samples rejected with what noise alone explains, exposure by exposure."""
    facts = judged.facts
    used = [each for each in facts.used if each.n_rejected is not None]
    normal = "about as many of each exposure"
    if not used or not facts.n_samples:
        return Finding(
            code="OFF107",
            title="Samples rejected",
            state="unknown",
            finding="cannot tell: the numbers of each background are not recorded",
            normal=normal,
        )
    each_n = facts.n_samples / len(facts.used)
    shares = np.array([(each.n_rejected or 0) / each_n for each in used])
    total = float(sum(each.n_rejected or 0 for each in used)) / facts.n_samples
    numbers: dict[str, float | None] = {"rejected": total, "expected": facts.expected_rejected}
    text = f"{total:.2%} of the samples"
    if facts.expected_rejected is not None:
        text += f"; {facts.expected_rejected:.2%} is expected of noise alone"
        normal = (
            f"{facts.expected_rejected:.2%} by noise, some per cent more by cosmic rays and stars"
        )
    state: State = "ok"
    action = ""
    if len(shares) > 2:
        worst = int(np.argmax(shares))
        others = float(np.median(np.delete(shares, worst)))
        numbers |= {"most": float(shares[worst]), "others": others}
        if shares[worst] > 10 * max(others, 1e-3):
            state = "doubtful"
            name = used[worst].exposure.name
            text += f"; {shares[worst]:.2%} of {name}, {others:.2%} of the others"
            action = f"look at {name}: a bright source, another level or a damaged exposure?"
    if state == "ok" and total > (facts.expected_rejected or 0.0) + 0.15:
        state = "doubtful"
        matched = facts.level != "none"
        action = "the exposures differ by more than noise: " + (
            "look for sources and other levels in them"
            if matched
            else "match their levels (--level offset), or raise the threshold (--sigma)"
        )
    return Finding(
        code="OFF107",
        title="Samples rejected",
        state=state,
        finding=text,
        normal=normal,
        action=action,
        numbers=numbers,
    )


def check_uncovered(judged: Judged) -> Finding:
    """Count the pixels that no background covers."""
    facts, gathered = judged.facts, judged.gathered
    n = gathered.shape[0] * gathered.shape[1]
    lost = max(0, facts.n_uncovered - facts.n_no_value) / n
    if facts.subtraction == "none" or (not facts.used and not facts.n_uncovered):
        return Finding(
            code="OFF108",
            title="Uncovered pixels",
            state="unknown",
            finding="cannot tell: no background is known to have been subtracted",
            normal="none but dead pixels",
        )
    state: State = "failed" if lost > 0.2 else "doubtful" if lost > 0.01 else "ok"
    fate = "set to NaN" if facts.uncovered == "nan" else "not subtracted"
    text = f"{lost:.2%} of the pixels have no background sample, {fate}"
    action = "use backgrounds that cover the target's window, more of them, or smaller masks"
    if facts.uncovered != "nan":
        action += "; with --uncovered nan nobody takes these pixels for subtracted ones"
    if state != "ok" and gathered.before is None:
        state = "unknown"
        text += "; cannot tell how many of them have a value in the target, which was not read"
    if facts.n_no_value:
        text += f"; {facts.n_no_value / n:.2%} more have no value in the target either"
    return Finding(
        code="OFF108",
        title="Uncovered pixels",
        state=state,
        finding=text,
        normal="less than 1 %",
        action="" if state == "ok" else action,
        numbers={"uncovered": lost},
    )


def check_configuration(judged: Judged) -> Finding:
    """Compare readout and date of target and backgrounds."""
    target, used = judged.facts.target, judged.facts.used
    readouts = [each.exposure for each in used if each.exposure.readout is not None]
    other = [each for each in readouts if target.readout not in (None, each.readout)]
    dates = [each.exposure.mjd for each in used if each.exposure.mjd is not None]
    days = [] if target.mjd is None else [abs(mjd - target.mjd) for mjd in dates]
    state: State = "ok"
    texts, actions = [], []
    if other:
        more = f" (and {len(other) - 1} more)" if len(other) > 1 else ""
        first = other[0]
        texts.append(f"{first.name} has the readout {first.readout}, the target {target.readout}")
        texts[-1] += more
        actions.append("use backgrounds of the same readout: others leave blotches and stripes")
    elif readouts and target.readout is not None:
        texts.append(f"all have the readout {target.readout}")
    if days:
        texts.append(f"at most {max(days):.1f} days apart")
        if max(days) > _MOST_DAYS:
            actions.append(
                "use backgrounds nearer in time: zodiacal light and telescope emission change"
            )
    if actions:
        state = "doubtful"
    elif not texts:
        state = "unknown"
        texts.append("cannot tell: the headers have no readout and no date, or were not read")
    return Finding(
        code="OFF109",
        title="Readout and date",
        state=state,
        finding="; ".join(texts),
        normal="one readout, and days between target and backgrounds at most",
        action="; ".join(actions),
        numbers={"n_other_readout": len(other), "most_days": max(days) if days else None},
    )


def check_twice(judged: Judged) -> Finding:
    """Look whether a background or an imprint was subtracted twice, or not at all."""
    facts = judged.facts
    texts, actions = [], []
    state: State = "ok"
    if facts.times_subtracted > 1 or facts.target.background == "COMPLETE":
        state = "failed"
        texts.append("a background was subtracted from a target that had been subtracted before")
        actions.append("begin again with the target as it was before (_rate)")
    elif facts.target.master == "COMPLETE":
        state = "doubtful"
        texts.append("a master background was subtracted as well")
        actions.append("leave out one of the two")
    elif facts.subtraction == "none" and facts.status is None:
        state = "unknown"
        texts.append("no step has tried to subtract a background yet (S_BKDSUB is not there)")
    elif facts.subtraction == "none":
        state = "doubtful"
        texts.append(f"nothing was subtracted (S_BKDSUB is {facts.status})")
        actions.append("give backgrounds, or look in the log for why none could be used")
    elif (looks := _looks_subtracted(judged)) is not None:
        state = "doubtful"
        texts.append(looks)
        actions.append("look whether the target had been subtracted before, by another program")
    else:
        texts.append("subtracted once")
    other = [each for each in facts.used if _differs(each.exposure, facts.target)]
    if other:
        state = "doubtful" if state == "ok" else state
        first = other[0].exposure
        texts.append(
            f"imprint: {facts.target.imprint or 'not subtracted'} in the target, "
            f"{first.imprint or 'not subtracted'} in {first.name}"
        )
        actions.append("subtract the imprint from all of them, or from none")
    return Finding(
        code="OFF110",
        title="Subtracted twice, or not at all",
        state=state,
        finding="; ".join(texts),
        normal="once, and the imprint treated alike in all exposures",
        action="; ".join(actions),
        numbers={"times": facts.times_subtracted},
    )


def _looks_subtracted(judged: Judged) -> str | None:
    """Say so where the target had no sky left while the average has one; else None."""
    before, average = judged.before, judged.gathered.average
    if before is None or average is None:
        return None
    known = average[np.isfinite(average)]
    if not known.size or not isfinite(before.level):
        return None
    level, noise = quick_median(known), before.noise * judged.gathered.bin
    if level < 5 * noise or before.level > 0.3 * level:
        return None
    return (
        f"the target had the level {before.level:.3g} before where the average has {level:.3g}: "
        "its background looks subtracted already"
    )


def _differs(one: ExposureFacts, other: ExposureFacts) -> bool:
    """Tell whether the imprint was subtracted from one of two alone."""
    return (one.imprint == "COMPLETE") != (other.imprint == "COMPLETE")
