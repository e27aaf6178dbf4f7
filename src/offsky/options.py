"""How to average and subtract: the options, in one frozen object, and the named sets of them."""

from dataclasses import dataclass, field, fields, replace
from math import isfinite, isnan
from numbers import Integral, Real
from typing import Any, Literal, Self, get_args

from offsky.errors import ParameterError

Reject = Literal["sigma", "error", "mad", "minmax", "none"]
Center = Literal["median", "mean"]
Combine = Literal["mean", "median"]
Weight = Literal["equal", "integrations", "variance"]
Errors = Literal["none", "propagate"]
FlagRule = Literal["or", "kept", "all"]
Uncovered = Literal["keep", "nan"]
Level = Literal["none", "offset", "scale"]
Profile = Literal["jwst", "offsky"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "reject": get_args(Reject),
    "center": get_args(Center),
    "combine": get_args(Combine),
    "weight": get_args(Weight),
    "errors": get_args(Errors),
    "dq": get_args(FlagRule),
    "uncovered": get_args(Uncovered),
    "level": get_args(Level),
    "profile": get_args(Profile),
}

_KINDS: dict[str, type] = {
    "sigma": Real,
    "maxiters": Integral,
    "sigma_lower": Real,
    "sigma_upper": Real,
    "n_extremes": Integral,
    "min_keep": Integral,
    "bad_bits": Integral,
    "bad_fraction": Real,
    "mask_sources": bool,
}
_KIND_NAMES = {Real: "a number", Integral: "a whole number", bool: "true or false"}
_MAY_BE_NONE = {"maxiters", "sigma_lower", "sigma_upper", "bad_fraction"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The choices that decide the pixels of a result.

    The defaults are those of the JWST pipeline's step; `PROFILES` holds other sets.

    Attributes
    ----------
    sigma : float
        Rejection threshold, above zero: in standard deviations, median errors or
        scaled median absolute deviations, as `reject` says.
    maxiters : int or None
        Most passes of rejection; None repeats until nothing is rejected, 0 rejects
        nothing.
    reject : str
        How outliers are told: "sigma" (by the standard deviation of the samples),
        "error" (by the median of the samples' own ERR), "mad" (by their median
        absolute deviation), "minmax" (the `n_extremes` lowest and highest) or "none".
    sigma_lower, sigma_upper : float or None
        Thresholds below and above the centre; None for `sigma`.
    n_extremes : int
        What "minmax" drops at either end, where that leaves a sample.
    min_keep : int
        Samples that rejection leaves at least, those nearest to the centre; 0 for as
        few as the thresholds leave.
    center : str
        What the thresholds are about: "median" or "mean".
    combine : str
        What is made of the kept samples: "mean" or "median".
    weight : str
        Of each exposure in the mean: "equal", "integrations" (their number) or
        "variance" (the inverse of its median ERR squared).
    errors : str
        "none" leaves the target's errors as they are; "propagate" adds the average's.
    dq : str
        Flags of the average: "or" (of all samples), "kept" (of those kept) or "all"
        (those that every covering exposure has).
    bad_bits : int
        Flags that leave a sample out before rejection, where `dq` is not "or".
    bad_fraction : float or None
        Above this fraction of samples with one of `bad_bits` the average's pixel is
        flagged DO_NOT_USE; None for never. Where `dq` is not "or".
    uncovered : str
        A target pixel without a kept sample of background: "keep" it, or set it to
        "nan" and flag it.
    level : str
        Match the levels of the backgrounds before rejection: "none", by an "offset",
        or by a "scale".
    target_scale : float or str
        Factor on the average when it is subtracted; "fit" to find it.
    mask_sources : bool
        Find sources in each background and leave them out.
    profile : str
        The set that the others were begun with, "jwst" or "offsky"; products name it. It
        decides nothing, and options that differ in nothing else are equal.

    Raises
    ------
    ParameterError
        For a value out of range.
    """

    sigma: float = 3.0
    maxiters: int | None = None
    reject: Reject = "sigma"
    sigma_lower: float | None = None
    sigma_upper: float | None = None
    n_extremes: int = 1
    min_keep: int = 0
    center: Center = "median"
    combine: Combine = "mean"
    weight: Weight = "equal"
    errors: Errors = "none"
    dq: FlagRule = "or"
    bad_bits: int = 1
    bad_fraction: float | None = None
    uncovered: Uncovered = "keep"
    level: Level = "none"
    target_scale: float | Literal["fit"] = 1.0
    mask_sources: bool = False
    profile: Profile = field(default="jwst", compare=False)

    def __post_init__(self) -> None:
        """Check the values."""
        self._check_kinds()
        for name in ("sigma", "sigma_lower", "sigma_upper"):
            value = getattr(self, name)
            if value is not None and (isnan(value) or value <= 0):
                raise ParameterError(
                    f"{name} is {value:g}: the clipping threshold is a number of standard "
                    "deviations above zero, such as 3"
                )
        if self.maxiters is not None and self.maxiters < 0:
            raise ParameterError(
                f"maxiters is {self.maxiters}: give 0 or more passes, or none at all "
                "to clip until nothing is rejected"
            )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ParameterError(
                    f"{name} is {getattr(self, name)!r}: choose one of {', '.join(choices)}"
                )
        if self.n_extremes < 0 or self.min_keep < 0:
            raise ParameterError(
                f"n_extremes is {self.n_extremes} and min_keep {self.min_keep}: "
                "give numbers of samples, 0 or more"
            )
        if self.combine == "median" and self.weight != "equal":
            raise ParameterError(
                f"weight is {self.weight!r} and combine 'median': the median has no weights; "
                "combine by the 'mean' or give 'equal' weights"
            )
        if not 0 <= self.bad_bits < 2**32:
            raise ParameterError(f"bad_bits is {self.bad_bits}: a number of 32 bits is expected")
        if self.bad_fraction is not None and not 0 <= self.bad_fraction <= 1:
            raise ParameterError(f"bad_fraction is {self.bad_fraction:g}: give a fraction, 0 to 1")
        if self.target_scale != "fit" and not isfinite(self.target_scale):
            raise ParameterError(
                f"target_scale is {self.target_scale}: give a finite factor, or 'fit'"
            )

    def _check_kinds(self) -> None:
        """Raise for a value of another kind, as other programs' JSON may have."""
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if value is None and name in _MAY_BE_NONE:
                continue
            # True is a number to Python, not to us.
            is_bool = isinstance(value, bool)
            if not isinstance(value, kind) or is_bool is not (kind is bool):
                raise ParameterError(f"{name} is {value!r}: give {_KIND_NAMES[kind]}")
        scale = self.target_scale
        if scale != "fit" and (isinstance(scale, bool) or not isinstance(scale, Real)):
            raise ParameterError(f"target_scale is {scale!r}: give a finite factor, or 'fit'")

    def changed(self, **changes: Any) -> Self:
        """Return these options with some of them changed."""
        return replace(self, **changes)

    @property
    def uses_errors(self) -> bool:
        """Whether anything of the result but the average's own ERR depends on ERR."""
        return (
            self.reject == "error"
            or self.weight == "variance"
            or self.errors == "propagate"
            or self.mask_sources
            or self.target_scale == "fit"
        )

    def differences(self, other: "Options") -> dict[str, Any]:
        """Return the options, by name, that are not those of `other`."""
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.compare and getattr(self, each.name) != getattr(other, each.name)
        }

    def beyond_profile(self) -> dict[str, Any]:
        """Return the options, by name, that are not those of the profile."""
        return self.differences(PROFILES[self.profile])


PROFILES = {
    "jwst": Options(),
    # Chosen by measurement: docs/choosing.md, decisions 0007 to 0012.
    "offsky": Options(
        profile="offsky",
        reject="error",
        sigma=3.5,
        min_keep=1,
        errors="propagate",
        dq="kept",
        uncovered="nan",
        level="offset",
    ),
}
"""Sets of options by name: what the JWST pipeline does, and what offsky recommends."""
