"""How to average and subtract: every option declared once, as a field of `Options`.

Commands, the step, header cards and docs/options.md are derived from it; see `offsky.declared`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from math import isfinite
from typing import Any, Literal, Self

from offsky import effect
from offsky.declared import PROFILE_NAMES, Profile, declarations, in_words, option
from offsky.effect import Run
from offsky.errors import ParameterError, UnknownOptionError, shown

Reject = Literal["sigma", "error", "mad", "minmax", "none"]
Center = Literal["median", "mean"]
Combine = Literal["mean", "median"]
Weight = Literal["equal", "integrations", "variance"]
Errors = Literal["none", "propagate"]
FlagRule = Literal["or", "kept", "all"]
Uncovered = Literal["keep", "nan"]
Level = Literal["none", "offset", "scale"]
ErrScale = Literal["trust", "measure"]
GoodIs = Literal["0", "1"]


def check_profile(name: Any) -> str:
    """Return the name of a profile; raise ParameterError for another value."""
    if isinstance(name, str) and name in PROFILE_NAMES:
        return name
    raise ParameterError(f"profile is {shown(name)}: choose one of {', '.join(PROFILE_NAMES)}")


def check_names(given: Iterable[str], options: Sequence[str], others: Sequence[str] = ()) -> None:
    """Raise UnknownOptionError for a name that is no option, and name the nearest one.

    Parameters
    ----------
    given : iterable of str
        The names to check.
    options : sequence of str
        The names of options.
    others : sequence of str
        Names of a function's other parameters, one of which may have been meant.
    """
    for name in given:
        if name not in options:
            from difflib import get_close_matches

            near = get_close_matches(name, [*options, *others], n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(options)}"
            raise UnknownOptionError(f"unknown option {name!r}; {remedy}")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Options:
    """The options that decide the pixels of a result; frozen, checked when it is made.

    The defaults are those of the JWST pipeline's step; `PROFILES` holds other sets.
    """

    sigma: float = option(
        3.0,
        "Reject samples farther than this from the centre: in standard deviations, errors or "
        "median deviations, as `reject` says.",
        ("OFFSIGMA", "clipping threshold"),
        expected="a number of standard deviations above zero, such as 3",
        valid=lambda value: value > 0,
        idle=effect.of_sigma,
        always=True,
        offsky=3.5,
    )
    maxiters: int | None = option(
        None,
        "Reject at most N times (0: nothing; none: until nothing is rejected).",
        ("OFFMAXIT", "clipping passes at most (-1: no limit)"),
        expected="0 or more passes, or None to reject until nothing is rejected",
        idle=effect.of_maxiters,
        always=True,
    )
    reject: Reject = option(
        "sigma",
        "Find outliers by the samples' standard deviation (sigma), by ERR, each sample against "
        "the others (error), by their median absolute deviation (mad), their rank (minmax), or "
        "not at all.",
        ("OFFREJCT", "what tells outliers"),
        idle=effect.of_reject,
        offsky="error",
    )
    sigma_lower: float | None = option(
        None,
        "Threshold below the centre, where it is not `sigma`.",
        ("OFFSIGLO", "clipping threshold below the centre"),
        expected="a number of standard deviations above zero, or None for sigma",
        valid=lambda value: value > 0,
        idle=effect.of_sigma_lower,
        offsky=4.5,
    )
    sigma_upper: float | None = option(
        None,
        "Threshold above the centre, where it is not `sigma`.",
        ("OFFSIGHI", "clipping threshold above the centre"),
        expected="a number of standard deviations above zero, or None for sigma",
        valid=lambda value: value > 0,
        idle=effect.of_sigma_upper,
    )
    err_scale: ErrScale = option(
        "trust",
        "Judge samples by ERR as it is (trust), or by ERR times the scatter that each exposure is "
        "measured to have (measure), where `reject` is error.",
        ("OFFERSCL", "what rejection takes for the error"),
        idle=effect.of_err_scale,
        offsky="measure",
    )
    grow: float | None = option(
        None,
        "Reject the eight neighbours of a rejected sample too where they lie more than this many "
        "errors above the mean of the kept ones, where `reject` is error.",
        ("OFFGROW", "errors above which neighbours are rejected"),
        expected="a number of errors, 0 or more, such as 1.5, or None for none",
        valid=lambda value: value >= 0,
        idle=effect.of_grow,
        offsky=1.5,
    )
    n_extremes: int = option(
        1,
        "Drop the N lowest and the N highest samples, where `reject` is minmax.",
        ("OFFNEXTR", "extremes dropped at either end"),
        idle=effect.of_n_extremes,
    )
    min_keep: int = option(
        0,
        "Keep at least N samples of each pixel, those nearest to the centre.",
        ("OFFMINKP", "samples kept at least"),
        idle=effect.of_min_keep,
        offsky=1,
    )
    center: Center = option(
        "median",
        "Measure thresholds from the samples' median or from their mean, where `reject` is sigma "
        "or mad.",
        ("OFFCENTR", "what the thresholds are about"),
        idle=effect.of_center,
    )
    combine: Combine = option(
        "mean",
        "Average the kept samples by their mean or by their median.",
        ("OFFCOMB", "what is made of the kept samples"),
        idle=effect.of_combine,
    )
    weight: Weight = option(
        "equal",
        "Weight exposures alike (equal), by their integrations, or by their ERR (variance).",
        ("OFFWEIGH", "weights of the exposures"),
        idle=effect.of_weight,
    )
    errors: Errors = option(
        "none",
        "Leave the target's errors as they are (none), or add those of the average to ERR, "
        "VAR_POISSON and VAR_RNOISE (propagate).",
        ("OFFERRS", "what is done to errors and variances"),
        offsky="propagate",
    )
    dq: FlagRule = option(
        "or",
        "Give the average the flags of all samples (or), of the kept samples (kept), or those "
        "that all covering exposures have (all).",
        ("OFFDQ", "samples whose flags the average has"),
        offsky="kept",
    )
    bad_bits: int = option(
        1,
        "Leave out samples with any of these flags, where `dq` is kept or all: names or numbers "
        "of JWST flags, joined by commas.",
        ("OFFBADBT", "flags of samples that are left out"),
        expected="flags as a number of 32 bits",
        valid=lambda value: 0 <= value < 2**32,
        idle=effect.of_bad_bits,
        flags=True,
        offsky=1 | 32,  # DO_NOT_USE and PERSISTENCE
    )
    bad_fraction: float | None = option(
        None,
        "Flag a pixel of the average DO_NOT_USE where more than this fraction of its samples is "
        "bad (see `bad_bits`), where `dq` is kept or all.",
        ("OFFBADFR", "fraction of bad samples for DO_NOT_USE"),
        expected="a fraction from 0 to 1, or None to flag no pixel",
        valid=lambda value: 0 <= value <= 1,
        idle=effect.of_bad_fraction,
    )
    uncovered: Uncovered = option(
        "keep",
        "Keep target pixels that no background covers, or set them to NaN and flag them.",
        ("OFFUNCOV", "what is done to uncovered pixels"),
        of_subtraction=True,
        offsky="nan",
    )
    level: Level = option(
        "none",
        "Match the backgrounds' levels before averaging, by adding (offset) or multiplying "
        "(scale).",
        ("OFFMATCH", "how backgrounds' levels are matched"),
        idle=effect.of_level,
        offsky="offset",
    )
    target_scale: float | Literal["fit"] = option(
        1.0,
        "Multiply the average by this before it is subtracted; fit: find the factor.",
        ("OFFSCALE", "factor on the averaged background"),
        expected="a finite factor, or 'fit'",
        valid=isfinite,
        of_subtraction=True,
    )
    target_offset: float | Literal["fit"] = option(
        0.0,
        "Subtract this constant with the average, in the unit of SCI; fit: find it where the "
        "target leaves sky free.",
        ("OFFCONST", "constant subtracted with the background"),
        expected="a finite number in the unit of SCI, or 'fit'",
        valid=isfinite,
        of_subtraction=True,
    )
    mask_sources: bool = option(
        False,
        "Find the sources in each background and leave them out.",
        ("OFFMASK", "sources in backgrounds left out"),
    )
    mask_good_is: GoodIs = option(
        "0",
        "Value of good pixels in masks: with 0 all others are left out, with 1 those that are 0 "
        "or NaN.",
        ("OFFMGOOD", "good pixels in masks"),
    )
    # The set that the others were begun with; products name it. It decides nothing, and
    # options that differ in nothing else are equal.
    profile: Profile = field(default="jwst", compare=False)

    def __post_init__(self) -> None:
        """Check the values."""
        for each in declarations(type(self)):
            value = getattr(self, each.name)
            stored = each.checked(value)
            if stored is not value:
                object.__setattr__(self, each.name, stored)
        check_profile(self.profile)
        if self.combine == "median" and self.weight != "equal":
            raise ParameterError(
                f"weight is {self.weight!r} and combine 'median': the median has no weights; "
                "combine by the 'mean' or give 'equal' weights"
            )

    def __repr__(self) -> str:
        """Return the profile and what differs from it."""
        changed = [f"{name}={value!r}" for name, value in self.beyond_profile().items()]
        return f"{type(self).__name__}({', '.join([f'profile {self.profile!r}', *changed])})"

    def changed(self, **changes: Any) -> Self:
        """Return these options with some of them changed.

        Raises
        ------
        UnknownOptionError
            For a name that is no option.
        ParameterError
            For a value out of range.
        """
        check_names(changes, [each.name for each in fields(self)])
        return replace(self, **changes)

    @property
    def uses_errors(self) -> bool:
        """Whether anything of the result but the average's own ERR depends on ERR."""
        return (
            self.reject == "error"
            or self.weight == "variance"
            or self.errors == "propagate"
            or self.mask_sources
            or self.fits_target
        )

    @property
    def fits_target(self) -> bool:
        """Whether a factor or a constant is fitted to the target."""
        return "fit" in (self.target_scale, self.target_offset)

    def differences(self, other: "Options") -> dict[str, Any]:
        """Return the options, by name, that are not those of `other`."""
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.compare and getattr(self, each.name) != getattr(other, each.name)
        }

    def beyond_profile(self) -> dict[str, Any]:
        """Return the options, by name, that are not those of the profile."""
        return self.differences(profiles(type(self))[self.profile])


def as_options(value: Any) -> Options:
    """Return an `Options` as it is; raise ParameterError for anything else."""
    if isinstance(value, Options):
        return value
    raise ParameterError(
        f"options is {shown(value)}: give an Options, such as offsky.PROFILES['offsky']"
    )


def profiles(options_class: type[Options]) -> dict[str, Options]:
    """Return the profiles of a class by name."""
    key: Any = options_class
    return _profiles(key)


@cache
def _profiles(options_class: type[Any]) -> dict[str, Options]:
    return {
        name: options_class(
            profile=name,
            **{each.name: each.values[name] for each in declarations(options_class)},
        )
        for name in PROFILE_NAMES
    }


PROFILES = profiles(Options)
"""Sets of options by name: what the JWST pipeline does, and what offsky recommends.

The second was chosen by measurement: docs/choosing.md, decisions 0007 to 0012.
"""


def idle_options(options: Options, run: Run) -> dict[str, str]:
    """Return the options that differ from their profile and have no effect, each with why.

    All of them may be set back to the profile's values without a change of the result.
    """
    usual = profiles(type(options))[options.profile]
    differing = options.differences(usual)
    return {
        each.name: reason
        for each in declarations(type(options))
        if each.name in differing
        and each.idle is not None
        and run.n_backgrounds > 0
        and (reason := each.idle(options, run, getattr(usual, each.name))) is not None
    }


def without_effect(
    options: Options,
    n_backgrounds: int,
    *,
    subtracts: bool,
    n_integrations: Iterable[int] | None = None,
) -> list[str]:
    """Say which options that differ from their profile have no effect in a run.

    Parameters
    ----------
    options : Options
        How to average and subtract.
    n_backgrounds : int
        Backgrounds averaged; with none there is nothing to say.
    subtracts : bool
        Whether the average is subtracted from a target.
    n_integrations : iterable of int, or None
        Integrations of each background, 1 for an image; None if not known. A cube's
        integrations are rejected too, so that less can be said without.

    Returns
    -------
    list of str
        One sentence for each option, in the order of the options.

    Examples
    --------
    >>> without_effect(Options(reject="minmax", sigma=2.0), 5, subtracts=True)
    ['sigma = 2 has no effect: reject is minmax, which has no thresholds']
    """
    numbers = None if n_integrations is None else tuple(n_integrations)
    run = Run(n_backgrounds, subtracts, numbers)
    said = [
        f"{name} = {in_words(getattr(options, name))} has no effect: {reason}"
        for name, reason in idle_options(options, run).items()
    ]
    kept = effect.keeps_all(options, run)
    return said if kept is None else [*said, kept]


def _attributes() -> str:
    """Return the options as the docstring of `Options` lists them."""
    lines = ["", "    Attributes", "    ----------"]
    for each in declarations(Options):
        words = [f'"{word}"' for word in each.words]
        kind = {"number": "float", "count": "int", "flags": "int", "switch": "bool"}
        types = [kind[each.kind], *words] if each.kind in kind else [f"{{{', '.join(words)}}}"]
        lines.append(f"    {each.name} : {' or '.join([*types, *(['None'] * each.may_be_none)])}")
        line = "       "
        for word in each.help.split():
            if len(line) + len(word) > 90:
                lines.append(line)
                line = "       "
            line += f" {word}"
        lines.append(line)
    lines += ["    profile : str", "        The set that the others were begun with."]
    lines += ["", "    Raises", "    ------", "    ParameterError"]
    return "\n".join([*lines, "        For a value out of range.", "    "])


if Options.__doc__:  # not with -OO
    Options.__doc__ = f"{Options.__doc__.rstrip()}\n{_attributes()}"
