"""Checks of pixels: flags, errors, level and structure of what is left."""

from math import isfinite

from offsky.measure.judged import Judged
from offsky.values.finding import Finding, State

ERRORS = (0.9, 1.1)
"""Range of the scatter over ERR that is normal."""
# Below this share the error of the average does not matter.
_OMITTED = 1.005
STRIPES, BLOTCHES = 0.15, 1.35
"""Stripes in the noise of a pixel, and blotches over noise, that are doubtful from."""


def check_flags(judged: Judged) -> Finding:
    """Tell which exposures the flags come from, and how many pixels backgrounds alone cost."""
    gathered, facts = judged.gathered, judged.facts
    n = gathered.shape[0] * gathered.shape[1]
    unusable = gathered.n_unusable / n
    numbers: dict[str, float | None] = {"unusable": unusable, "flagged": gathered.n_flagged / n}
    action = ""
    if gathered.before is None:
        state: State = "unknown"
        text = (
            f"{unusable:.2%} of the pixels are DO_NOT_USE; cannot tell by which exposure: the "
            "target was not read"
        )
    else:
        by_backgrounds = gathered.n_unusable_by_backgrounds / n
        numbers["unusable_by_backgrounds"] = by_backgrounds
        text = (
            f"{unusable:.2%} of the pixels are DO_NOT_USE, {by_backgrounds:.2%} by backgrounds "
            "alone"
        )
        state = "failed" if by_backgrounds > 0.2 else "doubtful" if by_backgrounds > 0.02 else "ok"
        if gathered.one_background is not None and gathered.several_backgrounds is not None:
            numbers["flagged_by_one_background"] = gathered.one_background
            numbers["flagged_by_several_backgrounds"] = gathered.several_backgrounds
            text += (
                f"; {gathered.one_background:.2%} have a flag of one background, "
                f"{gathered.several_backgrounds:.2%} of several"
            )
        if gathered.freed_by_kept is not None and facts.dq == "or":
            numbers["usable_again_if_kept"] = gathered.freed_by_kept
            text += f"; dq = kept would make {gathered.freed_by_kept:.2%} of the average usable"
        if state != "ok":
            action = (
                "use --dq kept: flags of samples that were rejected then do not count"
                if facts.dq == "or"
                else "look at the backgrounds' own flags (plane 5), or use more backgrounds"
            )
    return Finding(
        code="OFF103",
        title="Flags by cause",
        state=state,
        finding=text,
        normal="less than 2 % of the pixels are lost to flags of backgrounds alone",
        action=action,
        numbers=numbers,
    )


def check_errors(judged: Judged) -> Finding:
    """Compare the scatter of pixels with ERR."""
    ratio, omitted = judged.err_ratio, judged.err_without_average
    numbers: dict[str, float | None] = {"ratio": ratio, "expected": omitted}
    normal = f"1; {ERRORS[0]} to {ERRORS[1]} is fine"
    omits = omitted > _OMITTED
    text, action = f"the scatter of pixels is {ratio:.2f} times ERR", ""
    state: State = "ok"
    if not isfinite(ratio):
        state, numbers = "unknown", {}
        text = "cannot tell: the product has no ERR that can be used"
    elif ratio == 0:
        state = "unknown"
        text = "cannot tell: half of the pixels are equal to those beside them"
    elif ERRORS[0] <= ratio / (omitted if omits else 1) <= ERRORS[1]:
        if omits:
            text += (
                f", which omits the average's error with these options: {omitted:.2f} is "
                "expected then. The data are not at fault"
            )
            normal = f"{omitted:.2f} with these options; 1 with --errors propagate"
            action = "use --errors propagate (or --profile offsky) for errors that include it"
    else:
        state = "doubtful" if 0.5 <= ratio / omitted <= 2 else "failed"
        if omits:
            text += f"; ERR omits the average's error, which explains {omitted:.2f}"
        cause = (
            "correlated noise (1/f, a shower), or an ERR that was not updated"
            if ratio > omitted
            else "smoothed or resampled pixels, or an ERR of another stage"
        )
        action = (
            "do not weight by ERR or give signal to noise from it before the cause is found: "
            + cause
        )
    return Finding(
        code="OFF104",
        title="Errors",
        state=state,
        finding=text,
        normal=normal,
        action=action,
        numbers=numbers,
    )


def check_level(judged: Judged) -> Finding:
    """Tell the level that is left, in ERR."""
    after, unit = judged.after, judged.facts.unit or ""
    # The noise of a pixel, where it has no ERR.
    scale = judged.err if isfinite(judged.err) else after.noise * judged.gathered.bin
    in_err = after.level / scale if scale > 0 else float("nan")
    numbers: dict[str, float | None] = {
        "level": after.level,
        "in_err": in_err,
        "level_error": after.level_error,
    }
    before = judged.before
    if before is not None:
        numbers["level_before"] = before.level
    action = ""
    if not isfinite(in_err):
        state: State = "unknown"
        text = "cannot tell: no pixel is free of sources, or there is no noise to compare with"
    else:
        text = f"{after.level:+.3g} {unit}, {in_err:+.2f} of a pixel's ERR".replace(" ,", ",")
        if judged.facts.subtraction == "none":
            return _level_finding(
                "unknown",
                f"cannot tell: nothing was subtracted; the sky is at {text}",
                "",
                numbers,
            )
        significant = abs(after.level) > 4 * after.level_error
        state = "ok"
        if significant and abs(in_err) > 0.3:
            state = "failed" if abs(in_err) > 3 else "doubtful"
        if state != "ok":
            action = (
                "fit the factor on the average (--target-scale fit), or use backgrounds taken "
                "nearer in time"
            )
    return _level_finding(state, text, action, numbers)


def _level_finding(
    state: State, text: str, action: str, numbers: dict[str, float | None]
) -> Finding:
    return Finding(
        code="OFF105",
        title="Residual level",
        state=state,
        finding=text,
        normal="within 0.3 of a pixel's ERR, unless the field is full of faint light",
        action=action,
        numbers=numbers,
    )


def check_structure(judged: Judged) -> Finding:
    """Look for stripes and blotches."""
    after, before = judged.after, judged.before
    numbers: dict[str, float | None] = {"stripes": after.stripes, "blotches": after.blotches}
    if before is not None:
        numbers |= {"stripes_before": before.stripes, "blotches_before": before.blotches}
    if not isfinite(after.stripes) and not isfinite(after.blotches):
        return Finding(
            code="OFF106",
            title="Structure",
            state="unknown",
            finding="cannot tell: too few pixels are free of sources",
            normal="stripes under 0.15 of a pixel's noise, blotches under 1.35 of what it allows",
            numbers=numbers,
        )
    parts, actions = [], []
    state: State = "ok"
    if not judged.facts.is_imaging and judged.facts.exp_type is not None:
        parts.append("stripes are not judged in spectra")
    elif isfinite(after.stripes):
        parts.append(
            f"stripes along {after.stripes_along} of {after.stripes:.2f} of a pixel's noise"
        )
        if after.stripes > STRIPES:
            state = "failed" if after.stripes > 1 else "doubtful"
            actions.append(
                "stripes: correct 1/f noise (the pipeline's clean_flicker_noise), and use "
                "backgrounds of the same readout"
            )
    else:
        parts.append("stripes cannot be told")
    if isfinite(after.blotches):
        parts.append(f"8 x 8 means scatter {after.blotches:.2f} times what noise allows")
        was = before.blotches if before is not None else float("nan")
        better = isfinite(was) and after.blotches <= 0.9 * was
        if isfinite(was):
            parts[-1] += f" ({was:.2f} before)"
        if after.blotches > BLOTCHES and not better:
            state = "doubtful" if state == "ok" else state
            actions.append(
                "blotches: look for cosmic-ray showers and faint sources in single backgrounds, "
                "and reject them (--profile offsky, --mask-sources)"
            )
    return Finding(
        code="OFF106",
        title="Structure",
        state=state,
        finding="; ".join(parts),
        normal="stripes under 0.15 of a pixel's noise; 8 x 8 means under 1.35, or at least a "
        "tenth less than before (real fields have faint sources)",
        action="; ".join(actions),
        numbers=numbers,
    )
