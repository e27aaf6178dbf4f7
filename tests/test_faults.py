"""Bad input and bad luck: one clear line, no output, nothing left behind."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracle import tree
from stdatamodels.jwst import datamodels

import offsky
from offsky.errors import (
    ExposureError,
    ExposureMismatchError,
    MissingFileError,
    OffskyError,
    OutputError,
    OutputExistsError,
    ParameterError,
)
from offsky.testing import write_exposure


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, noisy: Any) -> dict[str, Path]:
    """The same three exposures in all formats: read only."""
    folder = tmp_path_factory.mktemp("made")
    files = {}
    for i, name in enumerate(("target", "b1", "b2")):
        sci, err, dq = noisy(i)
        path = write_exposure(folder / f"{name}.fits", sci=sci, err=err, dq=dq, extra_table=True)
        files[path.name] = path
    for name in ("target", "b1"):
        path = files[f"{name}.fits"]
        with datamodels.open(path) as model:
            model.save(folder / f"{name}.asdf")
        with fits.open(path, memmap=False) as hdus:
            for extension in ("SCI", "ERR", "DQ"):
                plain = hdus[extension]
                hdus[extension] = fits.CompImageHDU(plain.data, plain.header)
            hdus.writeto(folder / f"{name}_fz.fits")
        with fits.open(path, memmap=False) as hdus:
            hdus.writeto(folder / f"{name}.fits.gz")
        for ending in (".asdf", "_fz.fits", ".fits.gz"):
            files[name + ending] = folder / (name + ending)
    return files


@pytest.fixture
def inputs(folder: Path, made: dict[str, Path]) -> Path:
    """A folder with copies of them, and the current one beside it."""
    copies = folder / "inputs"
    copies.mkdir()
    for name, path in made.items():
        shutil.copy(path, copies / name)
    return copies


def assert_refused(
    action: Callable[[], Any], kind: type[OffskyError] = OffskyError, *words: str
) -> None:
    """Fail unless an action raises one clear line and leaves everything as it was."""
    before = tree(Path())
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    assert all(word in message for word in words), message
    assert tree(Path()) == before


def jobs(broken: Path, inputs: Path) -> dict[str, Callable[[], Any]]:
    """Return all that can be done with a file in each of its roles."""
    target, b1, b2 = (inputs / f"{name}.fits" for name in ("target", "b1", "b2"))
    return {
        "target": lambda: offsky.subtract_file(broken, [b1, b2], "r.fits"),
        "background": lambda: offsky.subtract_file(target, [b2, broken], "r.fits"),
        "average": lambda: offsky.average_file([broken, b2], "a.fits"),
        "model": lambda: offsky.subtract(broken, [b2]).close(),
        "background of a model": lambda: offsky.subtract(target, [b2, broken]).close(),
    }


def whole_units(path: Path) -> list[int]:
    """Return the lengths at which a file ends with an extension, and so seems whole."""
    if path.suffix != ".fits":
        return []
    with fits.open(path, disable_image_compression=True) as hdus:
        return [hdu.fileinfo()["datLoc"] + hdu.fileinfo()["datSpan"] for hdu in hdus]


@pytest.mark.parametrize("ending", [".fits", ".fits.gz", "_fz.fits"])
@pytest.mark.parametrize("role", ["target", "background", "average"])
def test_a_file_cut_anywhere_is_refused(inputs: Path, role: str, ending: str) -> None:
    whole = (inputs / f"{'target' if role == 'target' else 'b1'}{ending}").read_bytes()
    units = whole_units(inputs / f"{'target' if role == 'target' else 'b1'}{ending}")
    broken = inputs / f"broken{ending}"

    @settings(max_examples=20)
    @given(length=st.integers(0, len(whole) - 1))
    @example(length=0)
    @example(length=1)
    @example(length=2879)
    @example(length=len(whole) - 1)
    def check(length: int) -> None:
        if length in units:
            return
        broken.write_bytes(whole[:length])
        assert_refused(jobs(broken, inputs)[role], ExposureError, broken.name)

    check()
    # On both sides of where each extension begins and ends.
    for length in (unit + step for unit in units[:-1] for step in (-1, 1, 80, 2880)):
        if length not in units:
            broken.write_bytes(whole[:length])
            assert_refused(jobs(broken, inputs)[role], ExposureError, broken.name)


@pytest.mark.parametrize("ending", [".fits", ".asdf"])
@pytest.mark.parametrize("role", ["model", "background of a model"])
def test_a_file_cut_short_is_refused_by_models_too(inputs: Path, role: str, ending: str) -> None:
    whole = (inputs / f"b1{ending}").read_bytes()
    broken = inputs / f"broken{ending}"
    for length in np.linspace(0, 0.9 * len(whole), 7, dtype=int):
        broken.write_bytes(whole[:length])
        assert_refused(jobs(broken, inputs)[role], ExposureError, broken.name)


def test_a_file_cut_between_extensions_lacks_them_and_is_treated_so(
    inputs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Such a file is whole as far as FITS can tell.
    for role, name in (("target", "target"), ("background", "b1")):
        path = inputs / f"{name}.fits"
        primary, sci, err, *_ = whole_units(path)
        broken = inputs / f"cut_{name}.fits"
        for length, missing in ((primary, "SCI"), (sci, "DQ"), (err, "DQ")):
            broken.write_bytes(path.read_bytes()[:length])
            if role == "target" or missing == "SCI":
                assert_refused(
                    jobs(broken, inputs)[role], ExposureError, broken.name, f"no {missing} image"
                )
                continue
            caplog.clear()
            jobs(broken, inputs)[role]()
            assert f"{broken.name}: no {missing} image" in caplog.text
            Path("r.fits").unlink()


# What astropy remarks upon of the damage is its own business.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("role", "ending"),
    [
        ("target", ".fits"),
        ("target", "_fz.fits"),
        ("background", "_fz.fits"),
        ("average", ".fits"),
    ],
)
def test_damaged_bytes_are_refused_or_do_no_harm(inputs: Path, role: str, ending: str) -> None:
    whole = (inputs / f"{'target' if role == 'target' else 'b1'}{ending}").read_bytes()
    broken = inputs / f"broken{ending}"
    text = [i for i in range(0, len(whole), 80) if whole[i : i + 8].strip().isalnum()]
    places = st.integers(0, len(whole) - 1) | st.builds(
        int.__add__, st.sampled_from(text), st.integers(0, 40)
    )
    values = st.integers(0, 255) | st.sampled_from(b" =-9'/.E")

    @settings(max_examples=40)
    @example(damage=[(4328, 0)])
    @example(damage=[(570, 0)])
    @example(damage=[(328, 0)])
    @example(damage=[(250, 0)])
    @example(damage=[(112, 0)])
    @given(damage=st.lists(st.tuples(places, values), min_size=1, max_size=3))
    def check(damage: list[tuple[int, int]]) -> None:
        content = bytearray(whole)
        for place, value in damage:
            content[min(place, len(content) - 1)] = value
        broken.write_bytes(content)
        message = ""
        try:
            jobs(broken, inputs)[role]()
        except OffskyError as error:
            message = str(error)
        if message:
            assert len(message.splitlines()) == 1
            assert [path.name for path in Path().iterdir()] == ["inputs"]
        else:
            Path("a.fits" if role == "average" else "r.fits").unlink()
        assert broken.read_bytes() == content

    check()


def test_a_negative_size_in_a_header_is_refused(inputs: Path) -> None:
    # astropy goes back in the file by it, and finds the same extensions for ever.
    broken = inputs / "b1.fits"
    content = broken.read_bytes()
    broken.write_bytes(content.replace(b"NAXIS1  =                   23", b"NAXIS1  = -    23", 1)
                       .replace(b"NAXIS1  = -    23  ", b"NAXIS1  = -    23" + b" " * 15, 1)
                       [: len(content)])  # fmt: skip
    assert_refused(jobs(broken, inputs)["background"], ExposureError, "b1.fits")


NOT_FITS = {
    "empty": b"",
    "text": b"these are notes, not an exposure\n" * 200,
    "zeros": bytes(5760),
    "gzip of text": b"\x1f\x8b\x08\x00" + bytes(40),
    "html": b"<!DOCTYPE html><html>Not found</html>",
}


@pytest.mark.parametrize("what", [*NOT_FITS, "missing", "folder", "loop"])
@pytest.mark.parametrize("ending", [".fits", ".asdf"])
@pytest.mark.parametrize("role", ["target", "background", "average", "model"])
def test_what_is_no_exposure_is_refused(inputs: Path, role: str, ending: str, what: str) -> None:
    broken = inputs / f"broken{ending}"
    if what == "folder":
        broken.mkdir()
    elif what == "loop":
        broken.symlink_to(broken)
    elif what != "missing":
        broken.write_bytes(NOT_FITS[what])
    kind = MissingFileError if what == "missing" else ExposureError
    assert_refused(jobs(broken, inputs)[role], kind, broken.name)


@pytest.mark.parametrize("role", ["target", "background"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"SCI": None}, "no SCI image among its extensions (PRIMARY, ERR, DQ"),
        ({"SCI": np.ones(5, "f4")}, "SCI has the shape (5,)"),
        ({"SCI": np.ones((2, 2, 4, 5), "f4")}, "run the ramp fit"),
        ({"ERR": np.ones((4, 6), "f4")}, "ERR has the shape (4, 6), SCI (37, 23)"),
        ({"DQ": np.ones((2, 37, 23), "i4")}, "DQ has the shape (2, 37, 23), SCI (37, 23)"),
    ],
)
def test_extensions_that_make_no_exposure_are_named(
    inputs: Path, role: str, change: dict[str, Any], words: str
) -> None:
    broken = inputs / ("target.fits" if role == "target" else "b1.fits")
    with fits.open(broken, memmap=False) as hdus:
        for name, data in change.items():
            if data is None:
                del hdus[name]
            else:
                hdus[name] = fits.ImageHDU(data, name=name)
        hdus.writeto(broken, overwrite=True)
    assert_refused(jobs(broken, inputs)[role], ExposureError, broken.name, words)


@pytest.fixture
def no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where pixels are read."""

    def read(*given: Any) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr("offsky.io.source.LocalFile.read", read)


@pytest.mark.usefixtures("no_pixels")
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"sigma": 0.0}, "sigma is 0"),
        ({"sigma": -1.0}, "sigma is -1"),
        ({"sigma": float("nan")}, "sigma is nan"),
        ({"maxiters": -1}, "maxiters is -1"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_parameters_out_of_range_are_refused_before_pixels_are_read(
    inputs: Path, how: dict[str, Any], words: str
) -> None:
    target, b1 = inputs / "target.fits", inputs / "b1.fits"
    for action in (
        lambda: offsky.subtract_file(target, [b1], "r.fits", **how),
        lambda: offsky.average_file([b1], "a.fits", **how),
        lambda: offsky.subtract(target, [b1], **how),
        lambda: offsky.average([b1], **how),
        lambda: offsky.clipped_mean(np.ones((3, 2, 2)), **how),
    ):
        assert_refused(action, ParameterError, words)
    with pytest.raises(ValueError, match=words):
        offsky.subtract_file(target, [b1], "r.fits", **how)


@pytest.mark.usefixtures("no_pixels")
def test_exposures_that_do_not_go_together_are_refused_before_pixels_are_read(
    inputs: Path,
) -> None:
    target, b1 = inputs / "target.fits", inputs / "b1.fits"
    other = write_exposure(
        inputs / "other.fits",
        sci=np.ones((30, 23), "f4"),
        metadata={"meta.subarray.ysize": 37},
    )
    unit = write_exposure(
        inputs / "unit.fits",
        sci=np.ones((37, 23), "f4"),
        metadata={"meta.bunit_data": "MJy/sr"},
    )
    for backgrounds, words in (
        ([b1, other], "30 rows by 23 columns where SUBSIZE2 and SUBSIZE1 say 37 by 23"),
        ([b1, unit], "unit 'MJy/sr' differs from target.fits's 'DN/s'"),
        ([b1, target], "is the target itself"),
    ):
        assert_refused(
            lambda them=backgrounds: offsky.subtract_file(target, them, "r.fits"),
            ExposureMismatchError,
            words,
            ";",
        )


@pytest.mark.usefixtures("no_pixels")
@pytest.mark.parametrize("save", ["result", "average"])
def test_outputs_that_cannot_be_are_refused_before_pixels_are_read(
    inputs: Path, save: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, b1 = inputs / "target.fits", inputs / "b1.fits"
    Path("exists.fits").write_bytes(b"precious")
    Path("soft.fits").symlink_to(target)
    os.link(b1, "hard.fits")

    def write(name: str, **how: Any) -> Callable[[], Any]:
        path, combined = (name, None) if save == "result" else ("r.fits", name)
        return lambda: offsky.subtract_file(target, [b1], path, combined_path=combined, **how)

    assert_refused(write("exists.fits"), OutputExistsError, "exists.fits", "--overwrite")
    for name in (str(target), str(b1), "soft.fits", "hard.fits", "inputs/../inputs/b1.fits"):
        for overwrite in (False, True):
            assert_refused(write(name, overwrite=overwrite), OutputError, name, "also an input")
    assert_refused(write("nowhere/r.fits"), OutputError, "there is no directory nowhere")
    assert_refused(write("exists.fits/r.fits"), OutputError, "no directory exists.fits")
    assert_refused(write("inputs"), OutputError, "is a directory")
    assert_refused(write("x" * 300), OutputError, "name too long")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert_refused(write("new.fits"), OutputError, "cannot be written to")


def test_result_and_average_cannot_be_one_file(inputs: Path) -> None:
    for overwrite in (False, True):
        assert_refused(
            lambda overwrite=overwrite: offsky.subtract_file(
                inputs / "target.fits", [inputs / "b1.fits"], "r.fits",
                combined_path="inputs/../r.fits", overwrite=overwrite,
            ),
            OutputError, "another name",
        )  # fmt: skip


@pytest.mark.parametrize(("function", "n_before"), [("pwrite", 0), ("pwrite", 2), ("fsync", 0)])
def test_an_output_that_cannot_be_written_to_the_end_is_not_there(
    inputs: Path, monkeypatch: pytest.MonkeyPatch, function: str, n_before: int
) -> None:
    real, calls = getattr(os, function), []

    def full(*given: Any) -> Any:
        calls.append(given)
        if len(calls) > n_before:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, full)
        assert_refused(
            jobs(inputs / "target.fits", inputs)["target"],
            OutputError, "r.fits: writing failed (No space left on device)",
        )  # fmt: skip
    assert calls


def test_a_full_temporary_folder_is_named(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    assert_refused(
        jobs(inputs / "b1.fits.gz", inputs)["background"],
        ExposureError, "b1.fits.gz", "make room in", "TMPDIR",
    )  # fmt: skip


def test_a_file_that_appears_meanwhile_is_left_alone(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def appear(fd: int) -> None:
        real(fd)
        Path("r.fits").write_bytes(b"somebody else's")

    monkeypatch.setattr(os, "fsync", appear)
    with pytest.raises(OutputExistsError, match="appeared while offsky was working"):
        offsky.subtract_file(inputs / "target.fits", [inputs / "b1.fits"], "r.fits")
    assert Path("r.fits").read_bytes() == b"somebody else's"
    assert sorted(path.name for path in Path().iterdir()) == ["inputs", "r.fits"]


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (ParameterError, ValueError),
        (ExposureError, ValueError),
        (MissingFileError, FileNotFoundError),
        (ExposureMismatchError, ValueError),
        (OutputError, OSError),
        (OutputExistsError, FileExistsError),
    ],
)
def test_errors_are_offskys_and_of_the_fitting_built_in(
    kind: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(kind, OffskyError)
    assert issubclass(kind, builtin)
    assert str(kind("one line")) == "one line"
    for name in ("OffskyError", kind.__name__):
        assert getattr(offsky, name) in kind.__mro__
