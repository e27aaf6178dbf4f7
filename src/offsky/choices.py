"""The options of one call: a profile or an `Options`, and changes to it."""

import sys
from types import EllipsisType, FrameType
from typing import Any, Literal, TypedDict

from offsky.declared import declarations
from offsky.errors import ParameterError
from offsky.flags import flag_bits
from offsky.options import (
    PROFILES,
    Center,
    Combine,
    Errors,
    ErrScale,
    FlagRule,
    GoodIs,
    Level,
    Options,
    Reject,
    Uncovered,
    Weight,
    as_options,
    check_names,
    check_profile,
)


class FurtherChanges(TypedDict, total=False):
    """Fields of `Options`, but for `sigma` and `maxiters`."""

    reject: Reject
    sigma_lower: float | None
    sigma_upper: float | None
    err_scale: ErrScale
    grow: float | None
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
    target_offset: float | Literal["fit"]
    mask_sources: bool
    mask_good_is: GoodIs


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
    subtracts: bool = True,
) -> Options:
    """Return the options of a call.

    Parameters
    ----------
    profile : str
        Name of the set to begin with.
    options : Options or None
        Options to begin with instead.
    changes : dict
        Options by name, which win over those.
    sigma : float or None
        Likewise; None where it was not given.
    maxiters : int or None
        Likewise; ``...`` where it was not given.
    subtracts : bool
        Whether the average is subtracted from a target. If not, `changes` may not name
        an option of the subtraction.

    Returns
    -------
    Options

    Raises
    ------
    UnknownOptionError
        For a name that is no option. Names the nearest option, or the nearest parameter of
        the function that calls this one.
    ParameterError
        For a profile that does not exist, or a value out of range.
    """
    check_profile(profile)
    if options is not None and profile != "jwst":
        raise ParameterError(
            f"a profile ({profile}) and options are both given; give options = "
            f"PROFILES[{profile!r}].changed(...)"
        )
    begun = PROFILES[profile] if options is None else as_options(options)
    wanted: dict[str, Any] = dict(changes)
    known = declarations(type(begun))
    names = [each.name for each in known]
    if not wanted.keys() <= set(names):
        check_names(wanted, names, _parameters_of(sys._getframe(1)))
    for each in known:
        if each.name not in wanted:
            continue
        if each.of_subtraction and not subtracts:
            raise ParameterError(
                f"{each.name} is an option of the subtraction; leave it out, since an average "
                "alone is not subtracted"
            )
        if each.kind == "flags":
            wanted[each.name] = flag_bits(wanted[each.name])
    if sigma is not None:
        wanted["sigma"] = sigma
    if maxiters is not ...:
        wanted["maxiters"] = maxiters
    return begun.changed(**wanted)


def _parameters_of(frame: FrameType) -> tuple[str, ...]:
    """Return the names of a running function's parameters, without its ``**changes``."""
    code = frame.f_code
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
