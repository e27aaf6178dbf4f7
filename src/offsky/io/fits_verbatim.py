"""A header with a few cards changed, all others byte for byte as they were.

`astropy.io.fits` mends what it reads: `nan` becomes a text, a Latin-1 letter a question mark,
a keyword in small letters one in capitals; a card with a tab it refuses to write. Here it
decides where new cards go and what they look like; the others are copied.
"""

from collections import deque
from collections.abc import Set as AbstractSet

from astropy.io import fits

from offsky.io.fits_header import BLOCK, CARD


class NewHeader:
    """A header that is changed through astropy, and written with the bytes it was read with.

    Parameters
    ----------
    raw : bytes
        The header's blocks as they were.
    header : astropy.io.fits.Header
        The same as astropy reads it, with changes; still being changed.
    owned : set of str
        Keywords whose cards are astropy's: those that are changed, added or removed.
    """

    def __init__(self, raw: bytes, header: fits.Header, owned: AbstractSet[str]) -> None:
        self.header = header
        self.owned = set(owned)
        self._raw = _card_images(raw)

    def tobytes(self) -> bytes:
        """Return the header as it stands in a file, padded to whole blocks."""
        kept: deque[bytes] = deque()
        history: deque[bytes] = deque()
        for image in self._raw:
            keyword = image[:8].decode("latin-1").strip().upper()
            if keyword == "HISTORY":
                history.append(image)
            elif keyword not in self.owned:
                kept.append(image)
        out = []
        for card in self.header.cards:
            if card.keyword == "HISTORY" and history:
                out.append(history.popleft())
            elif card.keyword == "HISTORY" or card.keyword in self.owned:
                out.append(str(card).encode("ascii"))
            elif kept:
                out.append(kept.popleft())
        out += history
        out += kept
        content = b"".join(out) + b"END".ljust(CARD)
        return content.ljust(-(-len(content) // BLOCK) * BLOCK)


def _card_images(raw: bytes) -> list[bytes]:
    """Return the cards of a header before its END, each with its continuations."""
    images: list[bytes] = []
    for start in range(0, len(raw), CARD):
        card = raw[start : start + CARD]
        if card[:8] == b"END     " or card.strip() == b"END":
            break
        if card[:8] == b"CONTINUE" and images:
            images[-1] += card
        else:
            images.append(card)
    while images and not images[-1].strip():
        # Blank cards at the end are room for new ones.
        images.pop()
    return images
