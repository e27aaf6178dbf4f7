"""Damage to a FITS file: bits, cards, blocks, structure, tiles, cuts. All by a given chance."""

import gzip
from collections.abc import Callable
from random import Random

BLOCK, CARD = 2880, 80

Damage = Callable[[Random, bytearray], None]

ENDS = [b"ENE", b"END     x", b"END=", b"\0ND", b"end", b"   END", b"ENDX", b"END\t", b" ",
        b"END" + b" " * 76 + b"1", b"XTENSION= 'IMAGE   '", b"CONTINUE  'x'",
        b"END     = 1"]  # fmt: skip
VALUES = [
    *("0", "1", "-1", "2", "3", "7", "8", "16", "-32", "-64", "32", "64", "255", "999", "1000"),
    *("2147483647", "2147483648", "4294967296", "9223372036854775807", "18446744073709551616"),
    *("-9223372036854775809", "1" + "0" * 60, "1E999", "-1E999", "1.9", "1E-320", "0.5", "T"),
    *("F", "(1.0,2.0)", "nan", "inf", "''", "'SCI'", "'ERR     '", "'DQ'", "'sci'", "'IMAGE'"),
    *("'BINTABLE'", "'TABLE'", "'RICE_1'", "'GZIP_1'", "'HCOMPRESS_1'", "'PLIO_1'",),
    *("'1PB(0)'", "'1QB'", "'9999999999J'", "'A'", "'unclosed", "", "/ nothing", "'&'",),
    *("'a\tb'", "'\x01'", "1 2", "0x10", "1,000", "'DN/s'", "'MJy/sr'", "'2026-01-01'", "1D3"),
    *("'NOCOMPRESS'", "'caf\xe9'"),
]  # fmt: skip
KEYWORDS = [
    *("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "PCOUNT", "GCOUNT"),
    *("EXTEND", "EXTNAME", "EXTVER", "EXTLEVEL", "INHERIT", "BSCALE", "BZERO", "BLANK", "TFIELDS"),
    *("TFORM1", "TTYPE1", "THEAP", "TDIM1", "TNULL1", "TSCAL1", "TZERO1", "ZIMAGE", "ZBITPIX"),
    *("ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2", "ZCMPTYPE", "ZQUANTIZ", "ZSCALE"),
    *("ZZERO", "ZDITHER0", "ZNAME1", "ZVAL1", "ZNAME2", "ZVAL2", "ZBLANK", "ZSIMPLE", "ZTENSION"),
    *("ZPCOUNT", "GROUPS", "CHECKSUM", "DATASUM", "BUNIT", "INSTRUME", "DETECTOR", "FILTER"),
    *("EXP_TYPE", "SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2", "NINTS", "EXPSTART", "S_BKDSUB"),
    *("RA_REF", "EFFEXPTM", "READPATT", "PROGRAM", "DATAMODL", "BKGDTARG", "CONTINUE", "HIERARCH"),
    *("COMMENT", "HISTORY", "", "LONGSTRN", "OFFVER", "FILENAME", "DATE", "HISTORY"),
]  # fmt: skip


def units(content: bytes) -> list[tuple[int, int]]:
    """Return where headers begin and where their END card is, as far as they can be told."""
    found = []
    for start in range(0, len(content), BLOCK):
        if content[start : start + 8] not in (b"SIMPLE  ", b"XTENSION"):
            continue
        for place in range(start, len(content), CARD):
            if content[place : place + 8] == b"END     ":
                found.append((start, place))
                break
    return found


def _unit(chance: Random, content: bytearray) -> tuple[int, int]:
    return chance.choice(units(bytes(content)) or [(0, max(0, len(content) - CARD))])


def _card(chance: Random, content: bytearray) -> int:
    start, end = _unit(chance, content)
    return start + CARD * chance.randrange(max(1, (end - start) // CARD))


def _put(content: bytearray, place: int, card: bytes) -> None:
    content[place : place + CARD] = card[:CARD].ljust(CARD)


def _text(keyword: str, value: str) -> bytes:
    return f"{keyword:8}= {value:>20}".encode("latin-1")


def bits(chance: Random, content: bytearray) -> None:
    """Flip some bits anywhere."""
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def bits_of_header(chance: Random, content: bytearray) -> None:
    """Flip some bits of cards."""
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = _card(chance, content) + chance.randrange(CARD)
        # A file that was cut may end in the midst of a card.
        content[min(place, len(content) - 1)] ^= 1 << chance.randrange(8)


def letters(chance: Random, content: bytearray) -> None:
    """Put other characters into a card."""
    place = _card(chance, content)
    for _ in range(chance.choice((1, 1, 3))):
        other = min(place + chance.randrange(CARD), len(content) - 1)
        content[other] = chance.choice(b"0123456789'=/ TF.-E\t\0\xff(&\n")


def value(chance: Random, content: bytearray) -> None:
    """Give a card another value."""
    place = _card(chance, content)
    keyword = content[place : place + 8].decode("latin-1")
    _put(content, place, _text(keyword, chance.choice(VALUES)))


def named_value(chance: Random, content: bytearray) -> None:
    """Give a keyword that matters another value, where it is."""
    start, end = _unit(chance, content)
    there = {
        bytes(content[p : p + 8]).rstrip().decode("latin-1"): p for p in range(start, end, CARD)
    }
    names = [name for name in KEYWORDS if name in there]
    if names:
        name = chance.choice(names)
        _put(content, there[name], _text(name, chance.choice(VALUES)))


def inserted(chance: Random, content: bytearray) -> None:
    """Insert a card: another keyword, or one that is there, once more."""
    start, end = _unit(chance, content)
    place = start + CARD * chance.randrange(1, max(2, (end - start) // CARD))
    if chance.random() < 0.3:
        at = _card(chance, content)
        card = bytes(content[at : at + CARD])
    else:
        card = _text(chance.choice(KEYWORDS), chance.choice(VALUES))
    after = end + CARD
    if content[after : after + CARD].strip() == b"":
        del content[after : after + CARD]
    else:
        content[after:after] = b" " * (BLOCK - CARD)
    content[place:place] = card[:CARD].ljust(CARD)


def removed(chance: Random, content: bytearray) -> None:
    """Remove a card; a blank one follows END instead."""
    start, end = _unit(chance, content)
    place = start + CARD * chance.randrange(max(1, (end - start) // CARD))
    content[end + CARD : end + CARD] = b" " * CARD
    del content[place : place + CARD]


def swapped(chance: Random, content: bytearray) -> None:
    """Swap two cards, perhaps of two headers."""
    one, other = _card(chance, content), _card(chance, content)
    kept = bytes(content[one : one + CARD])
    _put(content, one, bytes(content[other : other + CARD]))
    _put(content, other, kept)


def end_card(chance: Random, content: bytearray) -> None:
    """Damage an END card, or put one where none is to be."""
    _, end = _unit(chance, content)
    if chance.random() < 0.8:
        _put(content, end, chance.choice(ENDS))
    else:
        _put(content, _card(chance, content), b"END")


def blocks(chance: Random, content: bytearray) -> None:
    """Remove, repeat, swap, blank or fill a block."""
    n_blocks = max(1, len(content) // BLOCK)
    one, other = (BLOCK * chance.randrange(n_blocks) for _ in range(2))
    kept = bytes(content[one : one + BLOCK])
    how = chance.randrange(6)
    if how == 0:
        del content[one : one + BLOCK]
    elif how == 1:
        content[other:other] = kept
    elif how == 2:
        content[one : one + BLOCK] = content[other : other + BLOCK]
        content[other : other + BLOCK] = kept
    elif how == 3:
        content[one : one + BLOCK] = chance.choice((b" ", b"\0", b"\xff")) * len(kept)
    elif how == 4:
        content[one : one + BLOCK] = chance.randbytes(len(kept))
    else:
        content[one:one] = chance.choice((b" ", b"\0")) * chance.choice((BLOCK, CARD, 1))


def structure(chance: Random, content: bytearray) -> None:
    """Remove, repeat, move or rename a whole extension."""
    starts = [start for start, _ in units(bytes(content))]
    if len(starts) < 2:
        return
    parts = [bytes(content[a:b]) for a, b in zip(starts, [*starts[1:], len(content)], strict=True)]
    i, j = chance.randrange(len(parts)), chance.randrange(len(parts))
    how = chance.randrange(4)
    if how == 0:
        del parts[i]
    elif how == 1:
        parts.insert(j, parts[i])
    elif how == 2:
        parts[i], parts[j] = parts[j], parts[i]
    else:
        names = [b"'SCI     '", b"'ERR     '", b"'DQ      '", b"'sci     '", b"'MORE    '"]
        parts[i] = parts[i].replace(chance.choice(names[:3]), chance.choice(names))
    content[:] = b"".join(parts)


def pixels(chance: Random, content: bytearray) -> None:
    """Change bytes of pixels, of tiles or of the table that tells where they lie."""
    _, end = _unit(chance, content)
    data = end + CARD + -(end + CARD) % BLOCK
    room = min(chance.choice((16, 64, 2 * BLOCK)), len(content) - data)
    for _ in range(chance.choice((1, 2, 8))):
        if room > 0:
            content[data + chance.randrange(room)] = chance.choice((0, 1, 127, 128, 255, 64, 31))


def cut(chance: Random, content: bytearray) -> None:
    """Cut the file short, or go on with something."""
    how = chance.randrange(4)
    if how == 0:
        del content[chance.randrange(len(content)) :]
    elif how == 1:
        del content[BLOCK * chance.randrange(len(content) // BLOCK + 1) :]
    elif how == 2:
        content += chance.randbytes(chance.choice((1, CARD, BLOCK)))
    else:
        content += chance.choice((b" ", b"\0")) * chance.choice((1, BLOCK - 1, BLOCK, 4 * BLOCK))


ALL: list[tuple[Damage, int]] = [
    (bits, 6), (bits_of_header, 10), (letters, 8), (value, 10), (named_value, 16),
    (inserted, 12), (removed, 6), (swapped, 4), (end_card, 16), (blocks, 8), (structure, 8),
    (pixels, 8), (cut, 4),
]  # fmt: skip


def damaged(chance: Random, content: bytes) -> tuple[bytes, str]:
    """Damage a file once or a few times; return it, and what was done."""
    found = bytearray(content)
    kinds, weights = zip(*ALL, strict=True)
    done = chance.choices(kinds, weights, k=chance.choice((1, 1, 1, 2, 2, 4)))
    for damage in done:
        if found:
            damage(chance, found)
    return bytes(found), ", ".join(damage.__name__ for damage in done)


def zipped(chance: Random, content: bytes) -> tuple[bytes, str]:
    """Zip a file, and perhaps damage what comes of it."""
    found = bytearray(gzip.compress(content, 1, mtime=0))
    if chance.random() < 0.3:
        bits(chance, found)
        return bytes(found), "zipped, then bits"
    return bytes(found), "zipped"
