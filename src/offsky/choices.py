"""The options of one call: a profile or an `Options`, and what is changed in it."""

from types import EllipsisType
from typing import Any, Literal, TypedDict

from offsky.errors import ParameterError
from offsky.flags import flag_bits
from offsky.options import (
    PROFILES,
    Center,
    Combine,
    Errors,
    FlagRule,
    Level,
    Options,
    Reject,
    Uncovered,
    Weight,
)


class FurtherChanges(TypedDict, total=False):
    """Fields of `Options`, but for `sigma` and `maxiters`."""

    reject: Reject
    sigma_lower: float | None
    sigma_upper: float | None
    n_extremes: int
    min_keep: int
    center: Center
    combine: Combine
    weight: Weight
    errors: Errors
    dq: FlagRule
    bad_bits: int | str
    bad_fraction: float | None
    uncovered: Uncovered
    level: Level
    target_scale: float | Literal["fit"]
    mask_sources: bool


class Changes(FurtherChanges, total=False):
    """Fields of `Options`, each as there; `bad_bits` also by names."""

    sigma: float
    maxiters: int | None


def choose_options(
    profile: str,
    options: Options | None,
    changes: Changes | FurtherChanges | dict[str, Any],
    *,
    sigma: float | None = None,
    maxiters: int | EllipsisType | None = ...,
) -> Options:
    """Return the options of a call.

    Parameters
    ----------
    profile : str
        Name of the set to begin with.
    options : Options or None
        What to begin with instead.
    changes : dict
        Options by name, which win over those.
    sigma : float or None
        Likewise; None where it was not given.
    maxiters : int or None
        Likewise; ``...`` where it was not given.

    Raises
    ------
    ParameterError
        For a profile that there is not, or a value out of range.
    TypeError
        For an option that there is not.
    """
    if profile not in PROFILES:
        raise ParameterError(f"profile is {profile!r}: choose one of {', '.join(PROFILES)}")
    if options is not None and profile != "jwst":
        raise ParameterError(
            f"a profile ({profile}) and options are both given; give options = "
            f"PROFILES[{profile!r}].changed(...)"
        )
    wanted: dict[str, Any] = dict(changes)
    if sigma is not None:
        wanted["sigma"] = sigma
    if maxiters is not ...:
        wanted["maxiters"] = maxiters
    if "bad_bits" in wanted:
        wanted["bad_bits"] = flag_bits(wanted["bad_bits"])
    return (PROFILES[profile] if options is None else options).changed(**wanted)
