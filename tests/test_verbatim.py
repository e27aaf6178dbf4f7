"""Cards of the primary header that offsky does not own arrive byte for byte."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from doors import made_by
from plain import expose, pixels
from scenes import Job
from test_keywords import add_card

import offsky

# What astropy says of such cards when the tests read them.
pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")

CARDS = [
    b"MEANVAL =                  nan / mean",
    b"OBSERVER= 'Jos\xe9    '           / who",
    b"lowerkey=                    1 / lower",
    b"NOTE    = 'a\tb     '           / tab",
    b"FACTOR  = 1.50000E+0 / odd spelling",
    b"SHORT=5",
    b"HIERARCH ESO a.b = 'x' / hierarch",
    b"COMMENT  \xb5m",
    b"HISTORY before  \xe9",
    b"RA_V1   =                  inf",
]


def cards_of(path: Path) -> list[bytes]:
    raw = path.read_bytes()
    cards = [raw[i : i + 80] for i in range(0, len(raw), 80)]
    return cards[: next(i for i, card in enumerate(cards) if card.rstrip() == b"END")]


OURS = (b"FILENAME", b"DATE ", b"S_BKDSUB", b"OFF", b"HISTORY offsky")


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("kind", ["plain", "compressed", "skipped"])
def test_a_card_that_is_not_ours_keeps_its_bytes(folder: Path, card: bytes, kind: str) -> None:
    target = expose(folder / "t_rate.fits", 10)
    if kind == "compressed":
        with fits.open(target) as hdus:
            for name in ("SCI", "ERR", "DQ"):
                own = hdus[name]
                hdus[name] = fits.CompImageHDU(own.data, own.header, compression_type="GZIP_1")
            hdus.writeto(target, overwrite=True)
    add_card(target, card)
    backgrounds = [] if kind == "skipped" else [expose(folder / "b_rate.fits", 3)]
    offsky.subtract_file(target, backgrounds, folder / "out.fits")
    before = [each for each in cards_of(target) if not each.startswith(OURS)]
    after = [each for each in cards_of(folder / "out.fits") if not each.startswith(OURS)]
    assert after == before
    assert card.ljust(80) in after
    with fits.open(folder / "out.fits") as hdus:
        assert hdus[0].header["S_BKDSUB"] == ("SKIPPED" if kind == "skipped" else "COMPLETE")
        assert np.array_equal(hdus["SCI"].data, np.full((6, 8), 10 if not backgrounds else 7))


@pytest.mark.parametrize("card", [CARDS[0], CARDS[3]])
def test_doors_that_write_files_keep_them(folder: Path, door: Any, card: bytes) -> None:
    if door.from_models:
        pytest.skip("stdatamodels writes the file")
    target = add_card(expose(folder / "t_rate.fits", 10), card)
    background = add_card(expose(folder / "b_rate.fits", 3), card)
    product = made_by(door, Job(target, (background,)), folder / "out")
    assert card.ljust(80) in cards_of(product)
    assert (pixels(product) == 7).all()


@pytest.mark.parametrize("card", CARDS)
def test_an_average_is_written_whatever_its_inputs_cards(folder: Path, card: bytes) -> None:
    backgrounds = [add_card(expose(folder / f"b{i}_rate.fits", 3), card) for i in range(2)]
    offsky.average_file(backgrounds, folder / "mean.fits")
    assert (pixels(folder / "mean.fits") == 3).all()


def test_checksums_of_sci_go_and_its_other_cards_stay(folder: Path) -> None:
    target = expose(folder / "t_rate.fits", 10)
    with fits.open(target) as hdus:
        hdus["SCI"].header["NOTE"] = "here"
        hdus.writeto(target, overwrite=True, checksum=True)
    raw = target.read_bytes()
    target.write_bytes(raw.replace(b"NOTE    = 'here    '", b"NOTE    = 'h\tre    '"))
    offsky.subtract_file(target, [expose(folder / "b_rate.fits", 3)], folder / "out.fits")
    out = (folder / "out.fits").read_bytes()
    assert b"NOTE    = 'h\tre    '" in out
    with fits.open(folder / "out.fits") as hdus:
        assert "CHECKSUM" not in hdus["SCI"].header
        assert (hdus["SCI"].data == 7).all()
