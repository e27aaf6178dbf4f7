"""A header with a few cards changed, all others byte for byte as they were.

`astropy.io.fits` mends what it reads: `nan` becomes a text, a Latin-1 letter a question mark,
a keyword in small letters one in capitals; a card with a tab it refuses to write. Here it
decides where new cards go and what they look like; the others are copied.
"""

from collections import deque
from collections.abc import Callable

from astropy.io import fits

from offsky.io.fits_header import BLOCK, CARD


class NewHeader:
    """A header that is changed through astropy, and written with the bytes it was read with.

    Parameters
    ----------
    header : astropy.io.fits.Header
        The header as astropy reads it, to be changed.
    raw : bytes or None
        The header's blocks as they were; None where astropy writes all cards so.
    changes : callable
        Whether the cards of a keyword are astropy's: set, added or removed. Of HISTORY, lines
        may be added.
    """

    def __init__(
        self,
        header: fits.Header,
        raw: bytes | None = None,
        changes: Callable[[str], bool] = str.isspace,
    ) -> None:
        self.header = header
        self._changes = changes
        self._images = None if raw is None else card_images(raw)

    def tobytes(self) -> bytes:
        """Return the header as it stands in a file, padded to whole blocks."""
        if self._images is None:
            return bytes(self.header.tostring().encode("ascii"))
        kept: deque[bytes] = deque()
        history: deque[bytes] = deque()
        for image in self._images:
            keyword = image[:8].decode("latin-1").strip().upper()
            if keyword == "HISTORY":
                history.append(image)
            elif not self._changes(keyword):
                kept.append(image)
        out = []
        for card in self.header.cards:
            if card.keyword == "HISTORY" and history:
                out.append(history.popleft())
            elif card.keyword == "HISTORY" or self._changes(card.keyword):
                out.append(str(card).encode("ascii"))
            elif kept:
                out.append(kept.popleft())
        out += [*history, *kept]
        content = b"".join(out) + b"END".ljust(CARD)
        return content.ljust(-(-len(content) // BLOCK) * BLOCK)


def card_images(raw: bytes) -> list[bytes]:
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
