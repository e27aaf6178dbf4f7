"""Single cards of a FITS header, without parsing the others.

A header of a JWST exposure has hundreds of cards, of which offsky looks at some forty.
`Header` of `astropy.io.fits` parses all their keywords, a hundred times slower than
reading them. Here the keywords are found as bytes, and astropy's `Card` parses the value
of those asked for. That is done only where a header is plain in every respect; any other
is astropy's from the start.
"""

import re
import struct
import warnings
from functools import cached_property, lru_cache
from typing import Any

from astropy.io import fits

BLOCK = 2880  # bytes; every header and every array fills whole ones
CARD = 80

_PRINTABLE = bytes(range(32, 127))
_END = b"END".ljust(CARD)
# These may be there many times, and have no value of their own.
_COMMENTARY = (b"        ", b"COMMENT ", b"HISTORY ", b"CONTINUE", b"HIERARCH")
_KEYWORDS = struct.Struct(f"8s{CARD - 8}x" * (BLOCK // CARD))
_KEYWORD = re.compile(rb"(?!END {5})[A-Z0-9_-]{1,8} *")
_VALUE = re.compile(
    rb"[A-Z0-9_-]{1,8} *= "
    rb"(?: *'[^']*'| *[TF]| *[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[ED][+-]?[0-9]+)?)?"
    rb"(?: +/.*| *)"
)

# Keywords that were found to be plain: those of one programme's files are the same.
_plain: set[bytes] = set(_COMMENTARY)
_MOST_PLAIN = 20_000


class Cards:
    """A header, from which values are taken one by one.

    Parameters
    ----------
    raw : bytes
        The header's blocks.
    places : dict or None
        Where the card of each keyword begins; None to ask astropy for all.
    hidden : frozenset of str
        Keywords that are spelled in another way, to be left to astropy.
    header : astropy.io.fits.Header or None
        The same, where astropy has read it already.
    """

    def __init__(
        self,
        raw: bytes,
        places: dict[bytes, int] | None,
        hidden: frozenset[str] = frozenset(),
        header: fits.Header | None = None,
    ) -> None:
        self._raw = raw
        self._places = places
        self._hidden = hidden
        if header is not None:
            self.header = header

    @cached_property
    def header(self) -> fits.Header:
        """The whole header, as astropy reads it."""
        with warnings.catch_warnings():
            # Oddities that astropy mends or remarks upon are not ours.
            warnings.simplefilter("ignore")
            return fits.Header.fromstring(self._raw.decode("ascii"))

    @property
    def n_bytes(self) -> int:
        """Length of the header's blocks."""
        return len(self._raw)

    def __contains__(self, keyword: str) -> bool:
        """Tell whether the header has a keyword."""
        found = self._card(keyword)
        return keyword in self.header if found is None else found[0]

    def get(self, keyword: str, default: Any = None) -> Any:
        """Return the value of a keyword, as astropy gives it."""
        found = self._card(keyword)
        if found is None:
            return self.header.get(keyword, default)
        return found[1] if found[0] else default

    def __getitem__(self, keyword: str) -> Any:
        """Return the value of a keyword; raise KeyError where it is not there."""
        found = self._card(keyword)
        if found is None:
            return self.header[keyword]
        if not found[0]:
            raise KeyError(f"Keyword {keyword!r} not found.")
        return found[1]

    def _card(self, keyword: str) -> tuple[bool, Any] | None:
        """Return whether a keyword is there, and its value; None to ask astropy."""
        if self._places is None or keyword in self._hidden:
            return None
        place = self._places.get(_padded(keyword))
        if place is None:
            return _ABSENT
        end = place + CARD
        if self._raw.startswith(b"CONTINUE", end):
            return None
        known, found = _value_of(self._raw[place:end])
        return found if known == keyword else None


_ABSENT = (False, None)


@lru_cache(maxsize=1024)
def _padded(keyword: str) -> bytes:
    return keyword.ljust(8).encode()


@lru_cache(maxsize=4096)
def _value_of(card: bytes) -> tuple[str | None, tuple[bool, Any]]:
    """Return the keyword of a plain card, None for any other, and (True, its value)."""
    if _VALUE.fullmatch(card) is None:
        return None, _ABSENT
    parsed = fits.Card.fromstring(card)
    value = parsed.value
    # As headers have it.
    return parsed.keyword, (True, None if isinstance(value, fits.card.Undefined) else value)


def plain_cards(raw: bytes, start: int = 0) -> Cards | None:
    """Find the cards of a plain header.

    Parameters
    ----------
    raw : bytes
        What holds the header.
    start : int
        Where it begins there.

    Returns
    -------
    Cards or None
        None for a header that does not end within `raw`, and for one that astropy might
        read in another way: with characters that FITS does not allow, keywords in small
        letters, blanks in or before a keyword, a keyword twice, an END that is not
        followed by blanks.
    """
    keywords: tuple[bytes, ...] = ()
    end = start
    while True:
        if end + BLOCK > len(raw):
            return None
        found = _KEYWORDS.unpack_from(raw, end)
        end += BLOCK
        if _END[:8] in found:
            break
        keywords += found
    header = raw[start:end]
    # Those of small extensions are the same in all files of a programme.
    known = _small_index(header) if end - start == BLOCK else _index(header, keywords + found)
    return None if known is None else Cards(header, *known)


def _index(
    header: bytes, keywords: tuple[bytes, ...]
) -> tuple[dict[bytes, int], frozenset[str]] | None:
    """Return where the cards of a plain header begin, and keywords that are hidden."""
    n_cards = keywords.index(_END[:8])
    if header[n_cards * CARD :] != _END.ljust(len(header) - n_cards * CARD):
        return None
    keywords = keywords[:n_cards]
    if header.translate(None, _PRINTABLE) or not _are_plain(keywords):
        return None
    places = dict(zip(keywords, range(0, n_cards * CARD, CARD), strict=True))
    n_free = sum(keywords.count(each) for each in _COMMENTARY)
    for each in _COMMENTARY:
        places.pop(each, None)
    if len(places) != n_cards - n_free:
        return None
    # A keyword may be any text in these.
    hidden = frozenset(
        header[i * CARD + 9 : (i + 1) * CARD].partition(b"=")[0].strip().upper().decode("ascii")
        for i, each in enumerate(keywords)
        if each == b"HIERARCH"
    )
    return places, hidden


@lru_cache(maxsize=1024)
def _small_index(header: bytes) -> tuple[dict[bytes, int], frozenset[str]] | None:
    return _index(header, _KEYWORDS.unpack(header))


def _are_plain(keywords: tuple[bytes, ...]) -> bool:
    """Tell whether keywords are written as FITS asks for."""
    new = set(keywords) - _plain
    if not all(_KEYWORD.fullmatch(each) for each in new):
        return False
    if len(_plain) < _MOST_PLAIN:
        _plain.update(new)
    return True
