"""Where an option has no effect: each function returns the reason in words, or None.

The functions follow the kernel (`offsky.kernel.twin_reject`, `twin_average`) and
`offsky.subtraction`. The options that are found here may be set back to their profile's
values, all together, without a change of the result; tests/test_effect.py does so.
"""

from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from offsky.options import Options


class Run(NamedTuple):
    """The facts of a run that decide whether an option has an effect.

    Attributes
    ----------
    n_backgrounds : int
        Backgrounds averaged, at least 1.
    subtracts : bool
        Whether the average is subtracted from a target.
    n_integrations : tuple of int, or None
        Integrations of each background, 1 for an image; None if not known.
    """

    n_backgrounds: int
    subtracts: bool
    n_integrations: tuple[int, ...] | None = None

    @property
    def n_samples(self) -> float:
        """Most samples that rejection compares at a time; infinite if not known.

        A cube's integrations are rejected among themselves first.
        """
        if self.n_integrations is None:
            return inf
        return max((self.n_backgrounds, *self.n_integrations))


def _rejects_nothing(options: "Options", run: Run) -> str | None:
    if run.n_samples <= 1:
        return "one image has nothing to be compared with"
    if options.reject == "none":
        return "reject is none"
    if options.maxiters == 0:
        return "maxiters is 0, and nothing is rejected"
    if options.min_keep >= run.n_samples:
        return f"min_keep is {options.min_keep}, and all {run.n_samples:g} samples are kept"
    return None


def _no_threshold(options: "Options", run: Run) -> str | None:
    reason = _rejects_nothing(options, run)
    if reason is None and options.reject == "minmax":
        return "reject is minmax, which has no thresholds"
    return reason


def of_sigma(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `sigma` has no effect."""
    sides = (options.sigma_lower, options.sigma_upper)
    reason = _no_threshold(options, run)
    # A side that is equal to sigma has no effect itself, see below.
    if reason is None and None not in sides and options.sigma not in sides:
        return "sigma_lower and sigma_upper are both given"
    return reason


def of_sigma_lower(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `sigma_lower` has no effect."""
    return _of_side(options.sigma_lower, usual, options, run)


def of_sigma_upper(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `sigma_upper` has no effect."""
    return _of_side(options.sigma_upper, usual, options, run)


def _of_side(side: float | None, usual: Any, options: "Options", run: Run) -> str | None:
    reason = _no_threshold(options, run)
    # Without a value of its own a side has that of sigma.
    is_sigma = usual in (None, options.sigma) and side in (None, options.sigma)
    return "it is equal to sigma" if reason is None and is_sigma else reason


def of_maxiters(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `maxiters` has no effect."""
    # 0 is why others have none, so that it has one itself.
    if run.n_samples > 1 and options.reject != "none" and options.maxiters == 0:
        return None
    return _no_threshold(options, run)


def of_reject(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `reject` has no effect."""
    if run.n_samples > 1 and options.reject == "none":
        return None
    return _rejects_nothing(options, run)


def of_grow(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `grow` has no effect; integrations of a cube do not grow."""
    if run.n_backgrounds == 1:
        return "there is one background"
    return of_err_scale(options, run, usual)


def of_n_extremes(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `n_extremes` has no effect."""
    reason = _rejects_nothing(options, run)
    if reason is not None:
        return reason
    if options.reject != "minmax":
        return f"reject is {options.reject}, and only minmax drops extremes"
    if run.n_samples < inf:
        most = int(run.n_samples - max(options.min_keep, 1)) // 2
        if min(options.n_extremes, most) == min(usual, most):
            return f"of {run.n_samples:g} samples minmax can drop {most} at either end"
    return None


def of_min_keep(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `min_keep` has no effect."""
    if run.n_samples > 1 and options.reject != "none" and options.maxiters != 0:
        # It may be why others have none; minmax and error keep one sample without it.
        alike = max(options.min_keep, 1) == max(usual, 1)
        keeps_one = options.reject in ("minmax", "error") and alike
        return f"{options.reject} keeps one sample" if keeps_one else None
    return _rejects_nothing(options, run)


def of_center(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `center` has no effect."""
    reason = _no_threshold(options, run)
    if reason is None and options.reject == "error":
        return "reject is error, which judges each sample against the others"
    return reason


def of_err_scale(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `err_scale` has no effect."""
    reason = _rejects_nothing(options, run)
    if reason is None and options.reject != "error":
        return f"reject is {options.reject}, which does not use ERR"
    return reason


def of_combine(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `combine` has no effect; integrations are always combined by their mean."""
    if not {options.combine, usual} <= {"mean", "median"}:
        return None
    return "the median of two is their mean" if run.n_backgrounds <= 2 else None


def of_weight(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `weight` has no effect."""
    if run.n_backgrounds == 1:
        return "there is one background"
    numbers = set(run.n_integrations or ())
    if options.weight == "integrations" and usual == "equal" and len(numbers) == 1:
        return "every background has the same number of them"
    return None


def of_bad_bits(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `bad_bits` has no effect."""
    return "dq is or, which leaves no flagged sample out" if options.dq == "or" else None


def of_bad_fraction(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `bad_fraction` has no effect."""
    if options.dq == "or":
        return "dq is or, which does not count bad samples"
    if options.bad_bits == 0:
        return "bad_bits is 0, and no sample is bad"
    return "no more than all samples can be bad" if options.bad_fraction == 1 else None


def of_level(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why `level` has no effect."""
    return "there is one background" if run.n_backgrounds == 1 else None


def of_subtraction(options: "Options", run: Run, usual: Any) -> str | None:
    """Return why an option of the subtraction has no effect."""
    return None if run.subtracts else "nothing is subtracted"


def keeps_all(options: "Options", run: Run) -> str | None:
    """Say so where `min_keep` is more than there is, which switches rejection off."""
    off = options.reject == "none" or options.maxiters == 0
    if off or not 1 < run.n_samples < options.min_keep:
        return None
    return (
        f"min_keep = {options.min_keep} is above the {run.n_samples:g} samples that a pixel can "
        "have: all are kept and nothing is rejected"
    )
