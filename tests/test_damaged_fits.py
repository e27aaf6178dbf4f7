"""Damaged FITS files: one reader decides where every unit lies, and odd values are one line."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from doors import DoorError, made_by
from oracle import fits_parts, tree
from plain import expose, pixels, refused
from scenes import Job

import offsky

# What astropy says of such files when the tests read them.
pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")


def stored(path: Path, kind: str, names: tuple[str, ...] = ("SCI", "ERR", "DQ")) -> Path:
    """Store images of an exposure in another way."""
    with fits.open(path, memmap=False) as hdus:
        for name in names:
            own = hdus[name]
            if kind == "tiled":
                hdus[name] = fits.CompImageHDU(own.data, own.header, compression_type="RICE_1")
            elif kind == "uint16" and name == "DQ":
                hdus[name] = fits.ImageHDU(own.data.astype(np.uint16), own.header)
            elif kind == "scaled" and name != "DQ":
                hdus[name].scale("int16", bscale=0.5, bzero=100.0)
        hdus.writeto(path, overwrite=True)
    return path


def place_of(content: bytes, unit: str, keyword: str) -> int:
    """Return where a card of an extension begins."""
    start = content.index(f"EXTNAME = '{unit}".encode()) if unit else 0
    start = content.rindex(b"XTENSION", 0, start) if unit else 0
    found = re.compile(rb"(?=" + keyword.encode().ljust(8) + rb"[= ])").search(content, start)
    assert found is not None
    while (found.start() - start) % 80:
        found = re.compile(rb"(?=" + keyword.encode().ljust(8) + rb"[= ])").search(
            content, found.start() + 1
        )
        assert found is not None
    return found.start()


def with_card(path: Path, unit: str, keyword: str, card: str) -> Path:
    """Put a card in the place of another."""
    content = bytearray(path.read_bytes())
    place = place_of(bytes(content), unit, keyword)
    content[place : place + 80] = card.encode().ljust(80)
    path.write_bytes(content)
    return path


def with_more(path: Path, unit: str, card: bytes) -> Path:
    """Put a card before EXTNAME, in the room that the block has, or in one more block."""
    content = path.read_bytes()
    at, end = place_of(content, unit, "EXTNAME"), place_of(content, unit, "END")
    rest = content[end + 80 :]
    rest = rest[80:] if rest[:80] == b" " * 80 else b" " * 2800 + rest
    path.write_bytes(content[:at] + card.ljust(80) + content[at : end + 80] + rest)
    return path


ENDS = ["ENE", "END     x", "END=", "\x00ND", "end", "   END", "ENDX"]


@pytest.mark.parametrize("kind", ["plain", "tiled", "scaled", "uint16"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("unit", ["", "SCI", "ERR", "DQ"])
@pytest.mark.parametrize("role", ["target", "background"])
def test_a_damaged_end_gives_a_refusal_or_the_right_pixels(
    folder: Path, kind: str, end: str, unit: str, role: str
) -> None:
    target = stored(expose(folder / "t_rate.fits", 10), kind)
    background = stored(expose(folder / "b_rate.fits", 3), kind)
    with_card(target if role == "target" else background, unit, "END", end)
    inputs = tree(folder)
    message = ""
    try:
        offsky.subtract_file(target, [background], folder / "r.fits")
    except offsky.OffskyError as error:
        message = str(error)
    if message:
        assert len(message.splitlines()) == 1
        assert tree(folder) == inputs
        return
    assert (pixels(folder / "r.fits") == 7).all()
    assert [hdu[0] for hdu in fits_parts(folder / "r.fits")] == ["PRIMARY", "SCI", "ERR", "DQ"]


def test_doors_agree_with_astropy_on_a_damaged_end(folder: Path, door: Any) -> None:
    target = stored(expose(folder / "t_rate.fits", 10), "uint16")
    background = with_card(expose(folder / "b_rate.fits", 3), "ERR", "END", "ENE")
    if door.name in ("model", "step"):
        pytest.skip("the test opens the models itself")
    with pytest.raises(DoorError, match=r"b_rate\.fits.*damaged"):
        made_by(door, Job(target, (background,)), folder / "out")


@pytest.mark.parametrize(
    "card",
    [
        "BITPIX  =                  -64",
        "NAXIS1  =                    4",
        "XTENSION= 'IMAGE   '",
        "EXTNAME = 'OTHER   '",
        "NAXIS   =                    3",
    ],
)
@pytest.mark.parametrize("unit", ["SCI", "DQ"])
def test_a_keyword_of_the_structure_given_twice_is_refused(
    folder: Path, capsys: Any, card: str, unit: str
) -> None:
    target = with_more(expose(folder / "t_rate.fits", 10), unit, card.encode())
    line = refused(capsys, "subtract", target, expose(folder / "b_rate.fits", 3), "-o", "r.fits")
    assert "t_rate.fits" in line
    assert f"{card.split('=')[0].strip()} is there 2 times" in line


def test_a_name_given_twice_in_an_extension_that_is_not_used_does_no_harm(folder: Path) -> None:
    target = expose(folder / "t_rate.fits", 10)
    with fits.open(target, memmap=False) as hdus:
        hdus.append(fits.ImageHDU(np.arange(5), name="MORE"))
        hdus.writeto(target, overwrite=True)
    with_more(target, "MORE", b"EXTNAME = 'OTHER   '")
    offsky.subtract_file(target, [expose(folder / "b_rate.fits", 3)], folder / "r.fits")
    assert (pixels(folder / "r.fits") == 7).all()
    assert target.read_bytes()[-5760:] == (folder / "r.fits").read_bytes()[-5760:]


ODD = [
    ("plain", "SCI", "NAXIS1", "NAXIS1  =                  8.5"),
    ("plain", "SCI", "NAXIS1", "NAXIS1  =                    T"),
    ("plain", "SCI", "NAXIS1", "NAXIS1  = '8       '"),
    ("plain", "SCI", "NAXIS1", "NAXIS1  =             (8.,1.)"),
    ("plain", "SCI", "NAXIS1", "NAXIS1  =               1E999"),
    ("plain", "SCI", "NAXIS1", "NAXIS1  = 99999999999999999999999999999999999"),
    ("plain", "SCI", "NAXIS", "NAXIS   =                 1000"),
    ("plain", "SCI", "PCOUNT", "PCOUNT  =                  0.5"),
    ("plain", "SCI", "GCOUNT", "GCOUNT  = 'one     '"),
    ("plain", "SCI", "BITPIX", "BITPIX  =                  -31"),
    ("scaled", "SCI", "BSCALE", "BSCALE  =                1E999"),
    ("scaled", "SCI", "BSCALE", "BSCALE  = 'half    '"),
    ("scaled", "SCI", "BZERO", "BZERO   =            (1.0,2.0)"),
    ("tiled", "SCI", "TFIELDS", "TFIELDS =           4294967296"),
    ("tiled", "SCI", "TFIELDS", "TFIELDS = 'many    '"),
    ("tiled", "SCI", "ZTILE1", "ZTILE1  = 18446744073709551616"),
    ("tiled", "SCI", "ZTILE1", "ZTILE1  =                1E999"),
    ("tiled", "SCI", "ZTILE2", "ZTILE2  =                    0"),
    ("tiled", "SCI", "ZNAXIS2", "ZNAXIS2 =           2147483647"),
    ("tiled", "SCI", "ZNAXIS1", "ZNAXIS1 =                    T"),
    ("tiled", "SCI", "ZBITPIX", "ZBITPIX =                   31"),
    ("tiled", "SCI", "ZNAXIS", "ZNAXIS  =                  1E9"),
]


@pytest.mark.parametrize(("kind", "unit", "keyword", "card"), ODD)
@pytest.mark.parametrize("role", ["target", "background"])
def test_a_number_of_the_structure_that_is_none_is_one_line(
    folder: Path, capsys: Any, kind: str, unit: str, keyword: str, card: str, role: str
) -> None:
    target = stored(expose(folder / "t_rate.fits", 10), kind)
    background = stored(expose(folder / "b_rate.fits", 3), kind)
    broken = with_card(target if role == "target" else background, unit, keyword, card)
    line = refused(capsys, "subtract", target, background, "-o", "r.fits")
    assert broken.name in line
    assert not (folder / "r.fits").exists()


def test_a_bitpix_that_contradicts_the_size_is_refused(folder: Path, capsys: Any) -> None:
    target = expose(folder / "t_rate.fits", 10, shape=(60, 50))
    for unit in ("SCI", "ERR", "DQ"):
        expose(target, 10, shape=(60, 50))
        for bits in (-64, 64, 16, 8):
            with_card(target, unit, "BITPIX", f"BITPIX  = {bits:>20}")
            background = expose(folder / "b_rate.fits", 3, shape=(60, 50))
            refused(capsys, "subtract", target, background, "-o", "r.fits")


@pytest.mark.parametrize("kind", ["BINTABLE", "TABLE"])
def test_a_table_of_four_billion_columns_is_refused_by_every_door(
    folder: Path, door: Any, kind: str
) -> None:
    if door.name in ("model", "step"):
        pytest.skip("the test opens the models itself")
    background = expose(folder / "b_rate.fits", 3)
    make = fits.BinTableHDU if kind == "BINTABLE" else fits.TableHDU
    with fits.open(background, memmap=False) as hdus:
        hdus.append(make.from_columns([fits.Column("A", "A5", array=["x"])], name="LIST"))
        hdus.writeto(background, overwrite=True)
    with_card(background, "LIST", "TFIELDS", "TFIELDS =           4294967296")
    target = expose(folder / "t_rate.fits", 10)
    with pytest.raises(DoorError, match=r"b_rate\.fits.*TFIELDS is 4294967296"):
        made_by(door, Job(target, (background,)), folder / "out")
    with pytest.raises(offsky.ExposureError, match="TFIELDS is 4294967296"):
        offsky.subtract(target, [background])


@pytest.mark.parametrize("value", ["1E999", "(1.0,2.0)", "1.9", "T", "nan", "'one'"])
def test_a_place_on_the_detector_that_is_no_whole_number_is_one_line(
    folder: Path, capsys: Any, value: str
) -> None:
    target = with_card(expose(folder / "t_rate.fits", 10), "", "SUBSTRT1", f"SUBSTRT1= {value}")
    background = expose(folder / "b_rate.fits", 3)
    line = refused(capsys, "subtract", target, background, "-o", "r.fits")
    assert "t_rate.fits: the keyword SUBSTRT1 is" in line


def test_an_instrument_that_is_a_number_is_one_line(folder: Path, capsys: Any) -> None:
    target = with_card(expose(folder / "t_rate.fits", 10), "", "INSTRUME", "INSTRUME=  5")
    background = expose(folder / "b_rate.fits", 3)
    line = refused(capsys, "subtract", target, background, "-o", "r.fits")
    assert "INSTRUME 'MIRI' differs from t_rate.fits's '5'" in line


def test_whole_numbers_beyond_floats_are_no_traceback(folder: Path) -> None:
    from offsky.values.metadata import metadata_of

    found = metadata_of(lambda name: 10**400 if name in ("ra_ref", "xstart") else None)
    assert found.ra_ref is None
    assert [name for name, _ in found.odd] == ["xstart", "ra_ref"]


KEPT_CARDS = [
    b"NOTE    = 'a\tb     '",
    b"NAME    = 'caf\xe9'",
    b"CONTINUE  'an orphan'",
    b"CONTINUE= 5",
    b"COMMENT  \x01",
    b"VALUE   =                  nan",
    b"lower   =                    1",
]


@pytest.mark.parametrize("kind", ["tiled", "scaled", "uint16"])
@pytest.mark.parametrize("card", KEPT_CARDS)
def test_odd_cards_of_an_extension_that_is_written_again_keep_their_bytes(
    folder: Path, kind: str, card: bytes
) -> None:
    target = stored(expose(folder / "t_rate.fits", 10), kind)
    with_more(target, "SCI", b"NOTE    = 'before  '")
    with_more(target, "SCI", card)
    offsky.subtract_file(target, [expose(folder / "b_rate.fits", 3)], folder / "r.fits")
    header = {name: header for name, header, _ in fits_parts(folder / "r.fits")}["SCI"]
    assert card.ljust(80) in [header[i : i + 80] for i in range(0, len(header), 80)]
    assert (pixels(folder / "r.fits") == 7).all()


@pytest.mark.parametrize(
    "card", [b"CONTINUE  'BSCALE goes on'", b"BLANK   =                   -1\xe9"]
)
def test_an_odd_card_that_must_change_is_refused(folder: Path, capsys: Any, card: bytes) -> None:
    target = stored(expose(folder / "t_rate.fits", 10), "scaled")
    place = place_of(target.read_bytes(), "SCI", "BSCALE")
    content = target.read_bytes()
    end = place_of(content, "SCI", "END")
    at = place + 80
    target.write_bytes(
        content[:at] + card.ljust(80) + content[at : end + 80] + content[end + 160 :]
    )
    background = expose(folder / "b_rate.fits", 3)
    line = refused(capsys, "subtract", target, background, "-o", "r.fits")
    assert "t_rate.fits" in line


@pytest.mark.parametrize("kind", ["tiled", "scaled", "uint16"])
def test_what_is_not_owned_keeps_its_bytes_on_the_slower_path(folder: Path, kind: str) -> None:
    target = expose(folder / "t_rate.fits", np.full((2, 6, 8), 10.0), dq=3)
    with fits.open(target, memmap=False) as hdus:
        table = fits.BinTableHDU.from_columns(
            [fits.Column("A", "1PJ()", array=np.array([[1, 2], [3]], dtype=object))], name="LIST"
        )
        table.header["NOTE"] = ("x", "y")
        hdus.insert(1, table)
        hdus.append(fits.ImageHDU(np.arange(7, dtype=">i2"), name="MORE"))
        hdus.append(fits.CompImageHDU(np.eye(9, dtype="i4"), name="TILES"))
        hdus.writeto(target, overwrite=True)
    stored(target, kind)
    # An ERR that is scaled is no business of a subtraction.
    stored(target, "scaled", ("ERR",)) if kind != "scaled" else None
    with_more(target, "MORE", b"ODD     = 'caf\xe9'")
    offsky.subtract_file(target, [expose(folder / "b_rate.fits", 3)], folder / "r.fits")
    before = {name: (header, data) for name, header, data in fits_parts(target)}
    after = {name: (header, data) for name, header, data in fits_parts(folder / "r.fits")}
    assert list(after) == list(before)
    for name in ("LIST", "MORE", "TILES", "ERR"):
        assert after[name] == before[name], name
    assert (pixels(folder / "r.fits") == 7).all()
    assert (pixels(folder / "r.fits", "DQ") == 3).all()
    with fits.open(target) as old, fits.open(folder / "r.fits") as new:
        for name in ("SCI", "DQ"):
            assert dict(new[name].header).get("BUNIT") == dict(old[name].header).get("BUNIT")


def test_masks_are_read_by_the_same_reader(folder: Path, capsys: Any) -> None:
    target, background = expose(folder / "t_rate.fits", 10), expose(folder / "b_rate.fits", 3)
    mask = folder / "mask.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1])], name="LIST")
    image = fits.ImageHDU(np.zeros((6, 8), "u1"), name="M")
    for first in (fits.PrimaryHDU(), fits.PrimaryHDU(np.zeros((6, 8), "i2"))):
        fits.HDUList([first, image, table]).writeto(mask, overwrite=True)
        offsky.subtract_file(target, [background], "r.fits", masks=[mask], overwrite=True)
        assert (pixels("r.fits") == 7).all()
    with_card(mask, "LIST", "TFIELDS", "TFIELDS =           4294967296")
    line = refused(capsys, "subtract", target, background, "-o", "q.fits", "--mask", mask)
    assert "mask.fits" in line
    assert "TFIELDS" in line


@pytest.mark.parametrize("value", ["F", "+8", "'T       '", "'DQ      '", "", "1.0"])
@pytest.mark.parametrize("role", ["target", "background"])
def test_a_file_whose_first_card_says_something_else_is_refused(
    folder: Path, capsys: Any, value: str, role: str
) -> None:
    target, background = expose(folder / "t_rate.fits", 10), expose(folder / "b_rate.fits", 3)
    broken = target if role == "target" else background
    with_card(broken, "", "SIMPLE", f"SIMPLE  = {value:>20}")
    line = refused(capsys, "subtract", target, background, "-o", "r.fits")
    assert broken.name in line
    assert "SIMPLE is" in line


@pytest.mark.parametrize("value", ["T", "8", "", "1E999"])
@pytest.mark.parametrize("unit", ["SCI", "ERR"])
def test_an_extension_whose_kind_is_no_text_is_refused(
    folder: Path, capsys: Any, value: str, unit: str
) -> None:
    target, background = expose(folder / "t_rate.fits", 10), expose(folder / "b_rate.fits", 3)
    with_card(target, unit, "XTENSION", f"XTENSION= {value:>20}")
    line = refused(capsys, "subtract", target, background, "-o", "r.fits")
    assert "t_rate.fits" in line


def test_a_blank_block_between_extensions_hides_nothing(folder: Path, capsys: Any) -> None:
    target, background = expose(folder / "t_rate.fits", 10), expose(folder / "b_rate.fits", 3)
    content = background.read_bytes()
    at = content.rindex(b"XTENSION", 0, content.index(b"EXTNAME = 'ERR"))
    for blank in (b" ", b"\0"):
        background.write_bytes(content[:at] + blank * 2880 + content[at:])
        line = refused(capsys, "subtract", target, background, "-o", "r.fits")
        assert "are no FITS extension" in line
        # Behind the last one it does no harm.
        background.write_bytes(content + blank * 5760)
        offsky.subtract_file(target, [background], folder / "r.fits")
        (folder / "r.fits").unlink()


@pytest.mark.parametrize("unit", ["ERR", "DQ"])
def test_an_extension_that_is_no_image_any_more_is_refused(
    folder: Path, door: Any, unit: str
) -> None:
    if door.name in ("model", "step"):
        pytest.skip("the test opens the models itself")
    background = expose(folder / "b_rate.fits", 3)
    with_card(background, unit, "XTENSION", "XTENSION= 'IMAGF   '")
    job = Job(expose(folder / "t_rate.fits", 10), (background,))
    with pytest.raises(DoorError, match=rf"b_rate\.fits: {unit} is 'IMAGF', no image"):
        made_by(door, job, folder / "out")


@pytest.mark.parametrize(
    ("keyword", "card", "expected"),
    [
        ("ZVAL2", "ZVAL2   =           2147483647", "expected the bytes of a pixel"),
        ("ZVAL2", "ZVAL2   =                  -64", "expected the bytes of a pixel"),
        ("ZVAL2", "ZVAL2   =                    T", "expected the bytes of a pixel"),
        ("ZVAL1", "ZVAL1   =                    0", "expected the pixels of a block"),
        ("ZVAL2", "ZVAL2   =                    8", "expected the bytes of a pixel"),
        ("ZNAME1", "ZNAME1  =                    1", "expected the name of a setting"),
        ("ZCMPTYPE", "ZCMPTYPE= 'SQUEEZE '", "expected one of RICE_1"),
        ("ZCMPTYPE", "ZCMPTYPE= 'HCOMPRESS_1'", "decompress the file first"),
    ],
)
def test_decoders_are_given_no_setting_that_ends_the_process(
    folder: Path, capsys: Any, keyword: str, card: str, expected: str
) -> None:
    target = with_card(stored(expose(folder / "t_rate.fits", 10), "tiled"), "DQ", keyword, card)
    line = refused(capsys, "subtract", target, expose(folder / "b_rate.fits", 3), "-o", "r.fits")
    assert "t_rate.fits" in line
    assert expected in line


def test_a_history_card_that_looks_like_a_value_is_kept(folder: Path) -> None:
    target = expose(folder / "t_rate.fits", 10)
    with_card(target, "", "READPATT", "HISTORY =               'DN/s'")
    offsky.subtract_file(target, [expose(folder / "b_rate.fits", 3)], folder / "r.fits")
    assert b"HISTORY =               'DN/s'" in (folder / "r.fits").read_bytes()
    assert (pixels(folder / "r.fits") == 7).all()


@pytest.mark.parametrize("value", ["-32", "0", "10001", "1.5", "T", ""])
def test_a_dither_that_begins_nowhere_is_refused(folder: Path, capsys: Any, value: str) -> None:
    target = expose(folder / "t_rate.fits", np.arange(48.0).reshape(6, 8))
    with fits.open(target, memmap=False) as hdus:
        own = hdus["SCI"]
        how = {"quantize_level": -0.125, "quantize_method": 1, "dither_seed": 7}
        hdus["SCI"] = fits.CompImageHDU(own.data, own.header, compression_type="RICE_1", **how)
        hdus.writeto(target, overwrite=True)
    background = expose(folder / "b_rate.fits", 3)
    offsky.subtract_file(target, [background], folder / "r.fits")
    with_card(target, "SCI", "ZDITHER0", f"ZDITHER0= {value:>20}" if value else "COMMENT")
    line = refused(capsys, "subtract", target, background, "-o", "q.fits")
    assert "t_rate.fits: the keyword ZDITHER0 of SCI is" in line
    assert "expected a number from 1 to 10000" in line
