"""Files as people have them: empty extensions, damaged masks, missing padding, old forms."""

import gzip
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from doors import made_by
from plain import expose, pixels
from scenes import Job

import offsky


def empty(path: Path, *names: str) -> Path:
    """Take the pixels out of some extensions, as NAXIS = 0."""
    with fits.open(path) as hdus:
        for name in names:
            if name in hdus:
                hdus[name] = fits.ImageHDU(name=name)
            else:
                hdus.append(fits.ImageHDU(name=name))
        hdus.writeto(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    return path


@pytest.mark.parametrize("where", ["target", "background"])
def test_an_extension_without_data_counts_as_missing(folder: Path, where: str) -> None:
    paths = {
        name: expose(folder / f"{name}_rate.fits", value)
        for name, value in (("target", 10), ("background", 3))
    }
    names = ["ERR", "VAR_POISSON", "VAR_RNOISE"] + ["DQ"] * (where == "background")
    empty(paths[where], *names)
    for errors in ("none", "propagate"):
        offsky.subtract_file(
            paths["target"],
            [paths["background"]],
            folder / "out.fits",
            overwrite=True,
            errors=errors,
        )
        assert (pixels(folder / "out.fits") == 7).all()


def test_a_target_whose_dq_has_no_data_is_told_as_one_without(folder: Path) -> None:
    target = empty(expose(folder / "t_rate.fits", 10), "DQ")
    background = expose(folder / "b_rate.fits", 3)
    with pytest.raises(offsky.ExposureError, match="no DQ image"):
        offsky.subtract_file(target, [background], folder / "out.fits")


def test_an_empty_sci_and_random_groups_are_named_as_what_they_are(folder: Path) -> None:
    background = expose(folder / "b_rate.fits", 3)
    target = empty(expose(folder / "t_rate.fits", 10), "SCI")
    with pytest.raises(offsky.ExposureError, match=r"SCI is empty \(no pixels\)"):
        offsky.subtract_file(target, [background], folder / "out.fits")
    groups = fits.GroupsHDU(
        fits.GroupData(np.ones((3, 4, 4), "f4"), parnames=["u"], pardata=[[1, 2, 3]])
    )
    fits.HDUList([groups, fits.ImageHDU(np.ones((4, 4)), name="SCI")]).writeto("g.fits")
    with pytest.raises(offsky.ExposureError, match="random groups"):
        offsky.subtract_file("g.fits", [background], folder / "out.fits")


def _damaged() -> dict[str, bytes]:
    plain = io.BytesIO()
    rng = np.random.default_rng(0)
    fits.PrimaryHDU(rng.integers(0, 2, (64, 64)).astype("u1")).writeto(plain)
    raw = plain.getvalue()
    zipped = bytearray(gzip.compress(raw))
    zipped[200:250] = b"\xff" * 50
    tiled = io.BytesIO()
    image = rng.integers(0, 99, (8, 8)).astype("i4")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image)]).writeto(tiled)
    tiles = bytearray(tiled.getvalue())
    tiles[-2880:-2820] = b"\xa5" * 60
    return {
        "damaged.fits.gz": bytes(zipped),
        "cut.fits.gz": gzip.compress(raw)[:300],
        "old.fits.Z": b"\x1f\x9d\x90" + raw[:200],
        "damaged.fits.zip": b"PK\x03\x04" + b"junk" * 30,
        "damaged.fits.bz2": b"BZh9" + b"junk" * 30,
        "tiles.fits": bytes(tiles),
        "no_naxis2.fits": raw.replace(b"NAXIS2  ", b"NAXISX  "),
        "bitpix7.fits": raw.replace(
            b"BITPIX  =                    8", b"BITPIX  =                    7"
        ),
        "text.fits": b"no FITS",
        "empty.fits": b"",
        "cut.fits": raw[:3000],
    }


@pytest.mark.parametrize("name", _damaged())
def test_a_damaged_mask_is_one_line(folder: Path, name: str) -> None:
    target, background = expose(folder / "t_rate.fits", 10), expose(folder / "b_rate.fits", 3)
    Path(name).write_bytes(_damaged()[name])
    with pytest.raises(offsky.ExposureError) as refused:
        offsky.subtract_file(target, [background], "out.fits", masks=[name])
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("where", ["target", "background"])
def test_a_last_block_without_padding_is_read_with_a_warning(
    folder: Path, door: Any, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    if door.name in ("model", "step"):
        pytest.skip("stdatamodels reads it by astropy, which warns")
    paths = {
        name: expose(folder / f"{name}_rate.fits", value)
        for name, value in (("target", 10), ("background", 3))
    }
    raw = paths[where].read_bytes()
    n_data = 4 * 6 * 8
    paths[where].write_bytes(raw[: len(raw) - (2880 - n_data)])
    with caplog.at_level(logging.WARNING):
        product = made_by(door, Job(paths["target"], (paths["background"],)), folder / "out")
    assert (pixels(product) == 7).all()
    assert product.stat().st_size % 2880 == 0
    if door.name == "file":
        assert "bytes of padding are missing" in caplog.text
    # One byte of the data less is a file cut short.
    paths[where].write_bytes(raw[: len(raw) - (2880 - n_data) - 1])
    with pytest.raises(offsky.ExposureError, match="cut short"):
        offsky.subtract_file(paths["target"], [paths["background"]], folder / "more.fits")
