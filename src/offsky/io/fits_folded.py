"""A header to be changed in a few cards, the others left as bytes.

Of the hundreds of cards of an exposure's primary header a product changes about fifteen.
astropy parses, checks and formats all of them for that. Here runs of cards that stay as
they are stand as one card each while astropy changes the rest, and are put back when the
header is written.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from astropy.io import fits

from offsky.io.fits_header import BLOCK, CARD, Cards, is_plain_card

# What a run may hold between its first and its last card.
_BETWEEN = (b"        ", b"COMMENT ")
# Two cards as one would gain nothing.
_LEAST_CARDS = 3


class FoldedHeader(fits.Header):  # type: ignore[misc]  # (astropy ships no types)
    """A header in which runs of cards that stay are folded; `tostring` unfolds them.

    Only the cards asked for with `of`, and new ones, may be set, looked up or removed.
    """

    _runs: dict[str, str]
    _folded: frozenset[str]

    @classmethod
    def of(cls, cards: Cards, changes: Callable[[str], bool]) -> fits.Header:
        """Return a header to be changed.

        Parameters
        ----------
        cards : Cards
            The header as it is; it stays so.
        changes : callable
            Whether a keyword may be set, looked up or removed. HISTORY always may.

        Returns
        -------
        astropy.io.fits.Header
            Folded where that can be done; else a copy of the whole.
        """
        if not cards.is_plain:
            return cards.header.copy()
        lines: list[bytes] = []
        runs: dict[str, str] = {}
        folded: list[str] = []
        for run in _split(cards.lines, changes):
            if len(run) < _LEAST_CARDS:
                lines += run
                continue
            keyword = _unused(cards, len(runs))
            runs[keyword] = b"".join(run).decode("ascii")
            folded += [line[:8].decode("ascii").rstrip() for line in run]
            lines.append(f"{keyword:8}= 0".ljust(CARD).encode("ascii"))
        with warnings.catch_warnings():
            # Oddities that astropy mends or remarks upon are not ours.
            warnings.simplefilter("ignore")
            header = cls.fromstring(b"".join(lines).decode("ascii"))
        header._runs, header._folded = runs, frozenset(folded) - {"", "COMMENT"}
        return header

    def tostring(self, sep: str = "", endcard: bool = True, padding: bool = True) -> str:
        """Return the whole header as it stands in a file."""
        if sep or not endcard or not padding:
            raise ValueError("a folded header is written as in a file only")
        twice = self._folded.intersection(self.keys())
        if twice:
            raise AssertionError(f"{min(twice)} was set where it is folded")
        text = super().tostring(padding=False)
        cards = [text[i : i + CARD] for i in range(0, len(text), CARD)]
        text = "".join([self._runs.get(card[:8].rstrip(), card) for card in cards])
        return text + " " * (-len(text) % BLOCK)

    def copy(self, strip: bool = False) -> Any:
        """Raise TypeError: a copy would lose the runs."""
        raise TypeError("a folded header cannot be copied")


def _split(lines: list[bytes], changes: Callable[[str], bool]) -> list[list[bytes]]:
    """Divide cards into runs that begin and end with cards that stay, and single others."""
    parts: list[list[bytes]] = []
    run: list[bytes] = []
    n_run = 0  # up to its last card that stays
    for line, following in zip(lines, [*lines, b""][1:], strict=True):
        keyword = line[:8]
        if run and keyword in _BETWEEN:
            run.append(line)
            continue
        if (
            is_plain_card(line)
            # Lines may be added to it, even where it looks like a value.
            and keyword != b"HISTORY "
            and not following.startswith(b"CONTINUE")
            and not changes(keyword.decode("ascii").rstrip())
        ):
            run.append(line)
            n_run = len(run)
            continue
        parts += [run[:n_run], *([each] for each in run[n_run:]), [line]]
        run, n_run = [], 0
    return [*parts, run[:n_run], *([each] for each in run[n_run:])]


@lru_cache(maxsize=256)
def _run_keyword(number: int) -> str:
    return f"FOLD-{number:03d}"


def _unused(cards: Cards, number: int) -> str:
    """Return a keyword for a run that the header does not have."""
    while _run_keyword(number) in cards:
        number += 1000
    return _run_keyword(number)
