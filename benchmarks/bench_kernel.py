"""How fast is clipped_mean beside what astronomers use, and beside not clipping at all?"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import numpy as np
from cases import STACKS, Stack, make_stack
from measure import Goal, Missing, Row, alternate, main, timed

import offsky

Measured = tuple[list[float], list[float], str]


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the cases, those on the same samples one after the other."""
    stack_of = lru_cache(maxsize=1)(make_stack)

    def row(
        key: str,
        peer_name: str,
        versus: Callable[[Stack, int], Measured],
        goal: Goal,
        pairs: int,
        what: str = "",
    ) -> Row:
        case = STACKS[key].quick() if options.quick else STACKS[key]
        n = options.pairs or (min(pairs, 3) if options.quick else pairs)
        name = f"clipped_mean{what}, {case}"
        return Row(name, peer_name, goal, lambda: versus(stack_of(case), n))

    astropy = "astropy: sigma_clip, masked mean, error, OR"
    numpy = "NumPy: mean, quadrature, OR of everything, one thread"
    written = "the same as one writes it: mean(0), sqrt((err**2).sum(0)) / n, bitwise_or.reduce"
    one_thread = partial(versus_numpy, threads=1)
    stored = partial(versus_numpy, as_stored=True)
    yield row("n4", astropy, versus_astropy, Goal(at_least=40), 5)
    yield row("n10", astropy, versus_astropy, Goal(at_least=40), 5)
    as_jwst = partial(versus_astropy, peer=astropy_average_as_jwst)
    yield row("n10", "astropy, as jwst spells it: ERR masked", as_jwst, Goal(at_least=40), 5)
    yield row("n10", numpy, versus_numpy, Goal(at_most=1), 25)
    as_written = partial(versus_numpy, peer=numpy_average_as_written)
    yield row("n10", written, as_written, Goal(at_most=1), 11)
    yield row("n10", numpy, one_thread, Goal(), 11, what=" on one thread")
    yield row("n10", numpy, stored, Goal(), 11, what=" of big-endian samples")
    yield row("n10", "reducers.sigclip_combine, SCI only", versus_reducers, Goal(at_least=8), 11)
    yield row("n32", astropy, versus_astropy, Goal(at_least=30), 3)
    yield row("n100", astropy, versus_astropy, Goal(at_least=25), 5)


def astropy_clip(sci: np.ndarray) -> np.ma.MaskedArray:
    """Clip as astropy does."""
    try:
        from astropy.stats import sigma_clip
    except ImportError:
        raise Missing("pip install astropy") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # non-finite samples are in the data
        return sigma_clip(sci, sigma=3.0, maxiters=None, axis=0)


def astropy_average(sci: np.ndarray, err: np.ndarray, dq: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return SCI, ERR, DQ and the samples kept, as astropy's users write it."""
    clipped = astropy_clip(sci)
    mean = clipped.mean(axis=0).filled(np.nan)
    n = clipped.count(axis=0)
    squares = np.add.reduce(np.square(err), axis=0, where=~clipped.mask)
    with np.errstate(invalid="ignore"):
        error = np.sqrt(squares) / n
    return mean, error, np.bitwise_or.reduce(dq, axis=0), n


def astropy_average_as_jwst(
    sci: np.ndarray, err: np.ndarray, dq: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return the same with masked arrays throughout, as jwst's background step does."""
    clipped = astropy_clip(sci)
    masked = np.ma.masked_array(err * err, mask=clipped.mask)
    n = len(sci) - masked.mask.sum(axis=0)
    with np.errstate(invalid="ignore"):
        error = np.sqrt(masked.sum(axis=0)).filled(np.nan) / n
    mean = clipped.mean(axis=0).filled(np.nan)
    return mean, error, np.bitwise_or.reduce(dq, axis=0), n


def versus_astropy(
    stack: Stack, pairs: int, peer: Callable[..., tuple[np.ndarray, ...]] = astropy_average
) -> Measured:
    """Compare with the same result made by astropy."""
    rejected = astropy_clip(stack.sci).mask
    np.testing.assert_array_equal(kept_samples(stack.sci), ~rejected)
    ours, theirs = offsky.clipped_mean(*stack), peer(*stack)
    np.testing.assert_array_equal(ours.n_kept, theirs[3])
    np.testing.assert_array_equal(ours.dq, theirs[2])
    # offsky sums in float64, the peer in float32.
    np.testing.assert_allclose(ours.sci, theirs[0], rtol=5e-6)
    np.testing.assert_allclose(ours.err, theirs[1], rtol=5e-6)
    del rejected, ours, theirs
    figures = alternate(
        lambda: timed(offsky.clipped_mean, *stack), lambda: timed(peer, *stack), pairs
    )
    return *figures, "same samples kept, same DQ; SCI, ERR within 5e-6"


def kept_samples(sci: np.ndarray, at_once: int = 12) -> np.ndarray:
    """Return which samples clipped_mean keeps: give each an ERR of its own and read the sums.

    ERR**2 is a power of two for some exposures at a time, 0 for the others.
    """
    kept = np.empty(sci.shape, bool)
    for first in range(0, len(sci), at_once):
        chosen = range(first, min(first + at_once, len(sci)))
        err = np.zeros((len(sci), 1, 1), "f4")
        err[chosen, 0, 0] = np.sqrt(2.0 ** np.arange(len(chosen)))
        average = offsky.clipped_mean(sci, np.broadcast_to(err, sci.shape))
        sums = np.rint(np.square(np.nan_to_num(average.err).astype("f8") * average.n_kept))
        for bit, i in enumerate(chosen):
            kept[i] = sums.astype(int) >> bit & 1
    return kept


def versus_numpy(
    stack: Stack,
    pairs: int,
    threads: int | None = None,
    as_stored: bool = False,
    peer: Callable[..., tuple[np.ndarray, ...]] | None = None,
) -> Measured:
    """Compare with an average that rejects nothing, NaN included."""
    peer = peer or numpy_average
    samples = stack.as_stored() if as_stored else stack
    ours, theirs = offsky.clipped_mean(*samples, threads=threads), peer(*stack)
    whole = ours.n_kept == len(stack.sci)
    np.testing.assert_allclose(ours.sci[whole], theirs[0][whole], rtol=5e-6)
    np.testing.assert_allclose(ours.err[whole], theirs[1][whole], rtol=5e-6)
    np.testing.assert_array_equal(ours.dq, theirs[2])
    note = f"same DQ; SCI, ERR within 5e-6 where nothing is rejected ({whole.mean():.0%})"
    del ours, theirs
    figures = alternate(
        lambda: timed(offsky.clipped_mean, *samples, threads=threads),
        lambda: timed(peer, *stack),
        pairs,
    )
    return *figures, note


def numpy_average(sci: np.ndarray, err: np.ndarray, dq: np.ndarray) -> tuple[np.ndarray, ...]:
    """Average everything: of several ways to write it in NumPy, the fastest found."""
    share = np.float32(1 / len(sci))
    mean = np.add.reduce(sci, axis=0)
    mean *= share
    error = np.einsum("iyx,iyx->yx", err, err)
    np.sqrt(error, out=error)
    error *= share
    return mean, error, np.bitwise_or.reduce(dq, axis=0)


def numpy_average_as_written(
    sci: np.ndarray, err: np.ndarray, dq: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Average everything, as one would write it."""
    error = np.sqrt((err**2).sum(axis=0)) / len(sci)
    return sci.mean(axis=0), error, np.bitwise_or.reduce(dq, axis=0)


def versus_reducers(stack: Stack, pairs: int) -> Measured:
    """Compare with the fastest peer on PyPI; it makes neither ERR nor DQ."""
    try:
        from reducers import sigclip_combine
    except ImportError:
        raise Missing("pip install reducers") from None
    peer = partial(
        sigclip_combine,
        combine="mean",
        sigma=3.0,
        maxiters=1000,
        cenfunc="median",
        clip_cen="mean",
        ddof=0,
    )
    difference = np.abs(offsky.clipped_mean(*stack).sci - peer(stack.sci))
    # It rounds centres to float32, so a sample at the very bound may fall otherwise.
    other = np.nan_to_num(difference) > 5e-6
    assert other.mean() < 1e-5, f"{other.sum()} pixels differ"
    figures = alternate(
        lambda: timed(offsky.clipped_mean, *stack), lambda: timed(peer, stack.sci), pairs
    )
    return *figures, f"SCI within 5e-6 but for {other.sum()} pixels at the very bound"


if __name__ == "__main__":
    assert __doc__
    main("kernel", __doc__, rows)
