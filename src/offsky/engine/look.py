"""Look at exposures before a pass, as far as options ask for it."""

from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor

from offsky.engine.passes import Pass
from offsky.engine.prepared import Opened, Prepared
from offsky.engine.samples import Samples
from offsky.options import Options


def look(
    pass_: Pass, opened: Opened, options: Options, threads: int
) -> tuple[list[Prepared], dict[Hashable, Exception]]:
    """Look at the exposures of a pass, as far as options ask for it.

    Parameters
    ----------
    pass_ : Pass
        The pass.
    opened : Opened
        Its exposures and masks.
    options : Options
        How they will be averaged.
    threads : int
        Threads to read on.

    Returns
    -------
    prepared : list of Prepared
        One for each recipe.
    broken : dict
        By their keys, the exposures that cannot be read, with the error.

    Notes
    -----
    Of each exposure the union of the rows that its recipes want is read, each row once; with
    ``options.mask_sources`` all of it before. Which rows those are depends on the frame, the
    number of exposures and their sizes, not on the pass. What is kept meanwhile does not grow
    with the number of exposures.
    """
    prepared = [Prepared([opened.masks.get(m.mask) for m in r.members]) for r in pass_.recipes]
    broken: dict[Hashable, Exception] = {}
    if options.mask_sources:
        # What only an option needs is imported there: a cold run waits for less.
        from offsky.engine.search import find_sources

        find_sources(pass_, opened, options, threads, prepared, broken)
    samples = Samples(pass_, opened, options, prepared)
    if samples.are_wanted:

        def read(i: int) -> None:
            try:
                samples.read(i)
            except Exception as error:
                broken[pass_.exposures[i].key] = error

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read, range(len(pass_.exposures))))
            samples.compare(pool)

    def settle(i: int) -> None:
        recipe, own = pass_.recipes[i], prepared[i]
        failed = [broken[m.facts.key] for m in recipe.members if m.facts.key in broken]
        try:
            if failed:
                raise failed[0]
            samples.settle(i)
        except Exception as error:
            own.error = error

    if not samples.are_wanted:
        # Threads would take longer to begin than there is to do.
        for i in range(len(pass_.recipes)):
            settle(i)
        return prepared, broken
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(settle, range(len(pass_.recipes))))
    return prepared, broken
