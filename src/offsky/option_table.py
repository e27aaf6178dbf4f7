"""The options in a table: what commands and steps say of each, and the values it takes."""

from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from offsky.options import PROFILES, Options


@dataclass(frozen=True, slots=True)
class OptionEntry:
    """One option, as commands and steps offer it.

    Attributes
    ----------
    name : str
        Of the field of `Options`.
    kind : str
        "choice", "number", "count", "flags" (a number, or names), "scale" (a number or
        "fit") or "switch".
    choices : tuple of str
        What a "choice" is one of.
    may_be_none : bool
        Whether None is a value.
    help : str
        One sentence.
    """

    name: str
    kind: str
    choices: tuple[str, ...]
    may_be_none: bool
    help: str

    @property
    def defaults(self) -> str:
        """Its values in the profiles, in words; the first one's, and others that differ."""
        (_, first), *others = PROFILES.items()
        usual = getattr(first, self.name)
        words = [_in_words(usual)]
        words += [
            f"{profile}: {_in_words(value)}"
            for profile, options in others
            if (value := getattr(options, self.name)) != usual
        ]
        return "; ".join(words)


_HELP = {
    "sigma": "Reject samples farther than this from the centre: in standard deviations, "
    "errors or median deviations, as --reject says.",
    "maxiters": "Reject at most N times (0: nothing; none: until nothing is rejected).",
    "reject": "Tell outliers by the samples' standard deviation (sigma), their own ERR (error), "
    "their median absolute deviation (mad), their rank (minmax), or not at all.",
    "sigma_lower": "Threshold below the centre, where it is not --sigma.",
    "sigma_upper": "Threshold above the centre, where it is not --sigma.",
    "n_extremes": "The N lowest and N highest are what minmax drops.",
    "min_keep": "Keep at least N samples of each pixel, those nearest to the centre.",
    "center": "What the thresholds are about.",
    "combine": "What is made of the samples kept.",
    "weight": "Weigh exposures alike, by their integrations, or by their ERR.",
    "errors": "Leave the target's errors as they are, or add those of the average (ERR, "
    "VAR_POISSON, VAR_RNOISE).",
    "dq": "Flags of the average: of all samples (or), of those kept, or those that all "
    "covering exposures have (all).",
    "bad_bits": "Leave out samples with any of these flags, where --dq is kept or all: names "
    "or numbers of JWST flags, joined by commas.",
    "bad_fraction": "Flag the average DO_NOT_USE where more than this fraction of the samples "
    "is bad; where --dq is kept or all.",
    "uncovered": "Keep target pixels that no background covers, or set them to NaN and flag them.",
    "level": "Match the backgrounds' levels before averaging, by adding (offset) or multiplying "
    "(scale).",
    "target_scale": "Multiply the average by this before it is subtracted; fit: find the factor.",
    "mask_sources": "Find the sources in each background and leave them out.",
}


def _entry(name: str, hint: Any) -> OptionEntry:
    alternatives = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
    kinds: dict[Any, str] = {float: "number", int: "count", bool: "switch"}
    choices: tuple[str, ...] = ()
    if get_origin(hint) is Literal:
        kind, choices = "choice", get_args(hint)
    elif name == "bad_bits":
        kind = "flags"
    elif Literal["fit"] in alternatives:
        kind = "scale"
    else:
        kind = next(kinds[each] for each in alternatives if each in kinds)
    return OptionEntry(name, kind, choices, type(None) in alternatives, _HELP[name])


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


OPTION_TABLE = tuple(
    _entry(name, hint) for name, hint in get_type_hints(Options).items() if name in _HELP
)
"""Every field of `Options` that decides pixels, in order."""
