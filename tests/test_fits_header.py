"""Cards read one by one are what astropy reads, whatever a header holds."""

import io
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.verify import VerifyError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from offsky.errors import ExposureError
from offsky.io import fits_layout
from offsky.io.fits import FitsExposure
from offsky.io.fits_average import filename_card
from offsky.io.fits_header import BLOCK, plain_cards
from offsky.io.fits_layout import read_layout
from offsky.io.fits_verbatim import NewHeader, card_images
from offsky.io.source import open_source
from offsky.testing import write_exposure
from offsky.values.exposure import Wanted
from offsky.values.metadata import KEYWORDS

STRUCTURE = [
    "SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "PCOUNT", "GCOUNT",
    "EXTNAME", "ZIMAGE", "BZERO", "BSCALE", "CHECKSUM", "GROUPS",
]  # fmt: skip
WANTED = [*STRUCTURE, *KEYWORDS.values(), "CROP_SHIFTX", "MISSING"]

# What headers hold, and what they never should.
keywords = st.sampled_from(
    [
        "NAXIS1  ", "BITPIX  ", "EXTNAME ", "FILTER  ", "EXPMID  ", "BUNIT   ", "DATE-BEG",
        "PROGRAM ", "HIERARCH", "COMMENT ", "HISTORY ", "CONTINUE", "        ", "END     ",
        "ENDING  ", "END    /", "naxis1  ", "Filter  ", " FILTER ", "FIL TER ", "FILTER=",
        "FILTER = ", "MY_KEY-1", "DP1     ", "Ä       ", "\0       ",
    ]
)  # fmt: skip
indicators = st.sampled_from(["= ", "= ", "= ", "  ", "=", " = ", "=="])
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=68)
odd_values = st.sampled_from(
    [
        "'F770W   '", "'it''s   '", "'open", "'AXIS.1: 2'", "'a / b'  / c", "'goes on &'", "''",
        "'", "' '", "T", "F", "t", "                   T", "                   32 / n", "-32",
        "+5", "1.5E3", "1.5D3", "1.", ".5", "1e3", "0x10", "007", "1 2", "(1, 2)", "nan", "", " /",
        "60000.5 /", "60000.5/x", "NAXIS1 = 5 / by another name", " NAXIS1 = 5",
        " CROP_SHIFTX = 13", " filter = 'x'", "   32 trailing", "1E", "--1",
    ]
)  # fmt: skip
cards = st.one_of(
    st.tuples(keywords, indicators, odd_values | texts).map("".join),
    texts,
    st.tuples(st.just("CONTINUE  '"), texts, st.just("'")).map("".join),
).map(lambda text: text[:80].ljust(80).encode("latin-1"))


def header_of(lines: list[bytes], rest: bytes = b" ") -> bytes:
    """Return cards as a header: END and what follows it in the block."""
    text = b"".join(lines) + b"END".ljust(80)
    return text + (rest * BLOCK)[: -len(text) % BLOCK]


def outcome(read: Any) -> tuple[str, Any]:
    """Return what reading a value gives, or the kind of its failure."""
    try:
        value = read()
    except Exception as error:
        return "error", type(error)
    return type(value).__name__, str(value)


@given(lines=st.lists(cards, max_size=40), rest=st.sampled_from([b" ", b"\0", b"x"]))
@example(lines=[b"FILTER  = 'goes on &'".ljust(80), b"CONTINUE  'here'".ljust(80)], rest=b" ")
@example(lines=[b"HIERARCH NAXIS1 = 5".ljust(80)], rest=b" ")
@example(lines=[b"FILTER  = 'AXIS.1: 2'".ljust(80)], rest=b" ")
@example(lines=[b"NAXIS1  = 5".ljust(80), b"NAXIS1  = 6".ljust(80)], rest=b" ")
@settings(max_examples=400)
def test_each_value_is_astropys_or_left_to_astropy(lines: list[bytes], rest: bytes) -> None:
    raw = header_of(lines, rest)
    found = plain_cards(b"before" + raw + b"after", len("before"))
    if found is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = io.BytesIO(raw)
        header = fits.Header.fromfile(file)
        assert found.n_bytes == file.tell()
        for keyword in WANTED:
            assert (keyword in found) == (keyword in header), keyword
            for ours, astropys in (
                (lambda k=keyword: found.get(k, "none"), lambda k=keyword: header.get(k, "none")),
                (lambda k=keyword: found[k], lambda k=keyword: header[k]),
            ):
                assert outcome(ours) == outcome(astropys), keyword
        for ours, astropys in zip(found.header.cards, header.cards, strict=True):
            assert outcome(lambda c=ours: c.image) == outcome(lambda c=astropys: c.image)


plain_values = st.one_of(
    st.text(st.sampled_from("ABC xyz019.:-_"), max_size=20),
    st.integers(-(2**31), 2**31),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)


@given(values=st.dictionaries(st.sampled_from([*KEYWORDS.values()]), plain_values, max_size=50))
def test_headers_as_astropy_writes_them_need_no_parsing_of_the_whole(
    values: dict[str, Any],
) -> None:
    header = fits.Header()
    for keyword, value in values.items():
        header[keyword] = (value, "a comment")
    text = header.tostring()
    found = plain_cards(text.encode("ascii"))
    assert found is not None
    # Floats may have lost their last digit.
    written = fits.Header.fromstring(text)
    for keyword in KEYWORDS.values():
        assert found.get(keyword) == written.get(keyword)
    assert "header" not in vars(found) or any(": " in str(value) for value in values.values())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An exposure's bytes: two large headers, small ones, a table."""
    path = tmp_path_factory.mktemp("whole") / "a_rate.fits"
    write_exposure(path, sci=np.ones((5, 4), "f4"), variances=True, extra_table=True)
    with fits.open(path, memmap=False) as hdus:
        for i in range(200):
            hdus[0].header[f"KEY{i}"] = (i * 1.5, "unknown")
        hdus["SCI"].header["S_REGION"] = "POLYGON ICRS " + "346.631258972 " * 8
        hdus["SCI"].header["HIERARCH CROP_SHIFTX"] = 13
        hdus.writeto(path, overwrite=True)
    return path.read_bytes()


def layout(path: Path) -> Any:
    """Return where everything lies, or the message of a refusal."""
    try:
        with closing(open_source(path)) as source:
            return [
                (e.name, e.header_start, e.data_start, e.end, e.is_image, e.is_compressed)
                for e in read_layout(source)
            ]
    except (ExposureError, VerifyError) as error:
        return str(error)


def exposure_of(path: Path) -> Any:
    """Return what an exposure's headers say, or the message of a refusal."""
    try:
        with FitsExposure(path) as exposure:
            return (
                exposure.shape,
                exposure.metadata,
                exposure.row_bytes(Wanted()),
                exposure.missing,
            )
    except ExposureError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore")
def test_damaged_headers_give_the_layout_that_astropys_give(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "damaged.fits"
    starts = [
        i
        for i in range(0, len(whole), 80)
        if whole[i : i + 8].strip().replace(b"-", b"").isalnum()
    ]
    places = st.builds(int.__add__, st.sampled_from(starts), st.integers(0, 79))
    values = st.integers(0, 255) | st.sampled_from(b" =-9'/.E+TF0\0")
    swaps = st.tuples(st.sampled_from(starts), st.sampled_from(starts))

    @settings(max_examples=250)
    @given(
        damage=st.lists(st.tuples(places, values), max_size=4),
        moved=st.lists(swaps, max_size=1),
        length=st.just(len(whole)) | st.integers(0, len(whole)),
    )
    def check(damage: Any, moved: Any, length: int) -> None:
        content = bytearray(whole)
        for source, target in moved:
            content[target : target + 80] = content[source : source + 80]
        for place, value in damage:
            content[place] = value
        path.write_bytes(content[:length])
        fast = layout(path), exposure_of(path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fits_layout, "plain_cards", lambda *given: None)
            slow = layout(path), exposure_of(path)
        assert fast == slow

    check()


def test_a_plain_exposure_is_opened_without_astropys_headers(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any, **how: Any) -> None:
        raise AssertionError("a whole header was parsed")

    path = tmp_path / "a_rate.fits"
    path.write_bytes(whole)
    monkeypatch.setattr(fits.Header, "fromfile", fail)
    monkeypatch.setattr(fits.Header, "fromstring", fail)
    with FitsExposure(path) as exposure:
        assert exposure.shape == (5, 4)
        assert exposure.metadata.filter == "F770W"
        assert exposure.has_variances


def test_a_header_longer_than_what_is_read_at_a_time_is_read_whole(tmp_path: Path) -> None:
    for n_cards in (30, 36, 200, 900, 2000):
        primary, sci = fits.PrimaryHDU(), fits.ImageHDU(np.ones((4, 5), "f4"), name="SCI")
        for hdu in (primary, sci):
            for i in range(n_cards):
                hdu.header[f"KEY{i}"] = i
        path = tmp_path / f"{n_cards}.fits"
        fits.HDUList([primary, sci, fits.ImageHDU(np.ones((9, 9), "f4"))]).writeto(path)
        with fits.open(path) as hdus:
            places = [hdu.fileinfo() for hdu in hdus]
        with closing(open_source(path)) as source:
            found = read_layout(source)
            assert [each.data_start for each in found] == [place["datLoc"] for place in places]
            assert found[1].cards[f"KEY{n_cards - 1}"] == n_cards - 1


named_cards = st.builds(
    lambda name, value, comment: f"{name:8}= {value:>20}{comment}",
    st.sampled_from([f"KEY{i}" for i in range(30)] + ["FILTER", "EXPMID", "BUNIT", "NEWKEY"]),
    st.sampled_from(["1", "-2.5", "+3.E5", "1.5D-3", "'text'", "'two  '", "T", "", "'A.B: 1'"]),
    st.sampled_from(["", " / a comment", " /", " / x   ", " /x", "/ near"]),
).map(lambda text: text[:80].ljust(80).encode("ascii"))
other_cards = st.sampled_from(
    [b"", b"", b"        Section", b"COMMENT a remark", b"HISTORY one", b"HIERARCH LONG NAME = 1",
     b"COMMENT", b"LONG    = 'goes on &'",
     b"LONG2   = 'goes on &'".ljust(80) + b"CONTINUE  'more'".ljust(80)]
).map(lambda text: text.ljust(80))  # fmt: skip
actions = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from(["FILTER", "NEWKEY", "EXPMID"]), plain_values),
        st.tuples(st.just("remove"), st.sampled_from(["FILTER", "BUNIT"]), st.none()),
        st.tuples(st.just("history"), st.just(""), st.text("abc ", min_size=1, max_size=90)),
    ),
    max_size=6,
)


@given(lines=st.lists(named_cards | named_cards | other_cards, max_size=60), actions=actions)
@settings(max_examples=400)
def test_a_header_of_bytes_changes_as_astropys_does(lines: list[bytes], actions: Any) -> None:
    # Of a keyword that is there twice astropy removes the first card, offsky both.
    keys = [line[:8] if line[8:9] == b"=" else i for i, line in enumerate(lines)]
    lines = [line for i, line in enumerate(lines) if keys.index(keys[i]) == i]
    # Beside a record-valued card astropy sets a second one, offsky replaces it.
    lines = [line for line in lines if b"A.B" not in line or line.startswith(b"KEY")]
    raw = header_of([b"SIMPLE  =                    T".ljust(80), *lines])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, own = fits.Header.fromstring(raw.decode("ascii")), NewHeader(raw)
        for what, keyword, value in actions:
            if what == "set":
                whole[keyword] = (value, "changed")
                own[keyword] = value, "changed"
            elif what == "remove":
                whole.remove(keyword, ignore_missing=True)
                own.remove(keyword)
            else:
                whole.add_history(value)
                own.add_history(value)
        ours = card_images(own.tobytes())
        again = fits.Header.fromstring(own.tobytes().decode("ascii"))
        assert [card.keyword for card in again.cards] == [card.keyword for card in whole.cards]
        # Cards that nobody touched are ours as they were, astropy's as it writes them.
        before = set(card_images(raw))
        for mine, card in zip(ours, whole.cards, strict=True):
            assert mine in before or mine.decode("ascii") == str(card)


def padded(*lines: bytes) -> bytes:
    """Return a header of cards that are cut short."""
    return header_of([line.ljust(80) for line in lines])


def test_a_header_without_changes_keeps_its_bytes_whatever_they_are() -> None:
    raw = padded(b"lower   = 1", b"NOTE    = 'a\tb'", b"\xe9", b" DATE   = 'x'", b"", b"")
    assert NewHeader(raw).tobytes() == raw


@pytest.mark.parametrize(
    "card", [b"DATE", b"DATE    = 'open", b"DATE    = \xe9\xff", b"date    = 1"]
)
def test_a_damaged_card_is_replaced_by_a_new_one(card: bytes) -> None:
    header = NewHeader(padded(b"FIRST   = 1", card, b"LAST    = 2"))
    header["DATE"] = "2026-01-01", None
    cards = card_images(header.tobytes())
    assert [each[:8] for each in cards] == [b"FIRST   ", b"DATE    ", b"LAST    "]
    assert fits.Card.fromstring(cards[1]).value == "2026-01-01"


@pytest.mark.parametrize("end", [b"END", b"END     / of it", b" END"])
def test_a_header_ends_at_its_end_however_that_is_written(end: bytes) -> None:
    header = NewHeader(padded(b"FIRST   = 1", end, b"LAST    = 2"))
    header["NEW"] = 2, None
    cards = [each[:8] for each in card_images(header.tobytes())]
    assert cards == [b"FIRST   ", b"NEW     "]
    assert b"LAST" not in header.tobytes()


def test_new_cards_use_up_the_blank_cards_at_the_end() -> None:
    header = NewHeader(padded(b"FIRST   = 1", b"HISTORY one", *[b""] * 4))
    header["NEW"] = "x" * 100, None
    header.add_history("y" * 100)
    cards = [each[:8] for each in card_images(header.tobytes())]
    assert cards == [b"FIRST   ", b"NEW     ", b"HISTORY ", b"HISTORY ", b"HISTORY "]


def test_a_card_of_another_type_is_another_card() -> None:
    header = NewHeader(header_of([]))
    for value, text in ((1, "1"), (True, "T"), (1.0, "1.0")):
        header["KEY"] = value, "it"
        assert header.tobytes()[10:30].strip().decode() == text


def test_a_comment_of_filename_that_no_card_can_hold_is_escaped() -> None:
    header = NewHeader(padded(b"FILENAME= 'a.fits  '           / \0Name"))
    header["FILENAME"] = filename_card("b.fits", header.comment("FILENAME"))
    assert b"'b.fits  '           / \\x00Name" in header.tobytes()
