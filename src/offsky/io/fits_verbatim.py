"""A header with a few cards changed, all others byte for byte as they were.

Of the hundreds of cards of an exposure's primary header a product changes about twenty.
`astropy.io.fits` parses, checks and formats all of them for that, and mends what it reads:
`nan` becomes a text, a Latin-1 letter a question mark, a keyword in small letters one in
capitals; a card with a tab it refuses to write. Here its `Card` formats those that change,
they stand where its `Header` would put them, and the others are copied.
"""

import warnings
from functools import lru_cache

from astropy.io import fits
from astropy.io.fits.verify import VerifyError

from offsky.io.fits_header import BLOCK, CARD

_BLANK, _END = b" " * CARD, b"END".ljust(CARD)
# New cards with a value stand before these.
_COMMENTARY = (b"", b"COMMENT", b"HISTORY")
_HISTORY_LENGTH = CARD - 8

CHECKSUMS = ("CHECKSUM", "DATASUM")
"""Keywords that a change of the header, or of its pixels, makes wrong."""

Value = str | int | float | None


class NewHeader:
    """A header as bytes, changed card by card.

    Parameters
    ----------
    raw : bytes
        The header's blocks as they were.
    """

    def __init__(self, raw: bytes) -> None:
        self._images = card_images(raw)
        # A list is searched, not a dictionary kept: what changes is little.
        self._keywords = [_keyword(image) for image in self._images]

    def __contains__(self, keyword: str) -> bool:
        """Tell whether there is a card of a keyword."""
        return keyword.encode("ascii") in self._keywords

    def comment(self, keyword: str) -> str | None:
        """Return the comment of a card; None where there is no card, or a damaged one."""
        if keyword not in self:
            return None
        image = self._images[self._keywords.index(keyword.encode("ascii"))]
        try:
            return str(fits.Card.fromstring(image).comment)
        except (ValueError, VerifyError):
            return None

    def __setitem__(self, keyword: str, card: tuple[Value, str | None]) -> None:
        """Set value and comment of a keyword; a comment of None stays as it is."""
        key = keyword.encode("ascii")
        if key in self._keywords:
            place = self._keywords.index(key)
            self._images[place] = _card(self._images[place], keyword, *card)
            return
        place = self._end()
        while place and self._keywords[place - 1] in _COMMENTARY:
            place -= 1
        self._insert(place, key, _card(None, keyword, *card))

    def remove(self, *keywords: str) -> None:
        """Remove all cards of some keywords, if there are any."""
        for keyword in keywords:
            while keyword in self:
                place = self._keywords.index(keyword.encode("ascii"))
                del self._images[place], self._keywords[place]

    def add_history(self, text: str) -> None:
        """Add a line of HISTORY after those there are, cut into cards where it is long."""
        key = b"HISTORY"
        for start in range(0, max(1, len(text)), _HISTORY_LENGTH):
            image = _card(None, "HISTORY", text[start : start + _HISTORY_LENGTH], None)
            place = self._end()
            if key in self._keywords:
                place = len(self._keywords) - self._keywords[::-1].index(key)
            self._insert(place, key, image)

    def tobytes(self) -> bytes:
        """Return the header as it stands in a file, padded to whole blocks."""
        content = b"".join(self._images) + _END
        return content.ljust(-(-len(content) // BLOCK) * BLOCK)

    def _end(self) -> int:
        """Return the place after the last card that is not blank."""
        place = len(self._images)
        while place and self._images[place - 1] == _BLANK:
            place -= 1
        return place

    def _insert(self, place: int, key: bytes, image: bytes) -> None:
        self._images.insert(place, image)
        self._keywords.insert(place, key)
        # Blank cards at the end are room for new ones.
        for _ in range(len(image) // CARD):
            if self._images[-1] != _BLANK:
                break
            del self._images[-1], self._keywords[-1]


def card_images(raw: bytes) -> list[bytes]:
    """Return the cards of a header before its END, each with its continuations."""
    cards = [raw[start : start + CARD] for start in range(0, len(raw), CARD)]
    for number, card in enumerate(cards):
        # Also one that something follows.
        if card.startswith(_END[:8]) or card.strip() == b"END":
            del cards[number:]
            break
    if b"CONTINUE" not in raw:
        return cards
    images: list[bytes] = []
    for card in cards:
        if card.startswith(b"CONTINUE") and images:
            images[-1] += card
        else:
            images.append(card)
    return images


def _keyword(image: bytes) -> bytes:
    keyword = image[:8].strip().upper()
    return keyword if keyword != b"HIERARCH" else image[8:].partition(b"=")[0].strip().upper()


def _card(image: bytes | None, keyword: str, value: Value, comment: str | None) -> bytes:
    """Return a card with another value, as astropy writes it; a new one in place of None."""
    return _written(image, keyword, value, comment, str(value))


# Many products of a programme have the same cards. True is not 1 here, nor -0.0 the same as 0.0:
# that is what the value's text is for.
@lru_cache(maxsize=1024, typed=True)
def _written(
    image: bytes | None, keyword: str, value: Value, comment: str | None, _text: str
) -> bytes:
    with warnings.catch_warnings():
        # What astropy mends or remarks upon is not ours.
        warnings.simplefilter("ignore")
        if image is not None:
            try:
                card = fits.Card.fromstring(image)
                card.value = value
                if comment is not None:
                    card.comment = comment
                return str(card).encode("ascii")
            except (ValueError, TypeError, VerifyError):
                pass  # too damaged to be changed: it is replaced
        return str(fits.Card(keyword, value, comment)).encode("ascii")
