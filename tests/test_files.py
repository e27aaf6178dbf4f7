"""Files in, a file out: the same bits as with models, and everything else as it was."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from oracle import compress_file, fits_parts, foreign_cards, model_state, read_pixels, tree
from stdatamodels.jwst import datamodels

import offsky
from offsky.errors import ExposureMismatchError
from offsky.testing import assert_same_bits, file_digest, write_exposure

FORMATS = ["fits", "fits.gz", "fz", "asdf"]
# Not as they are stored, but as a user may have made them.
LOSSLESS = {"compression_type": "GZIP_2", "quantize_level": 0}


def stored_as(path: Path, kind: str) -> Path:
    """Return the same exposure in another format, in a folder of that name."""
    folder = path.parent / kind
    folder.mkdir(exist_ok=True)
    copy = folder / path.name
    if kind == "asdf":
        with datamodels.open(path) as model:
            model.save(copy.with_suffix(".asdf"))
        return copy.with_suffix(".asdf")
    if kind == "fz":
        with fits.open(path, memmap=False) as hdus:
            for name in ("SCI", "ERR", "DQ"):
                plain = hdus[name]
                hdus[name] = fits.CompImageHDU(plain.data, plain.header, **LOSSLESS)
            hdus.writeto(copy)
        return copy
    shutil.copy(path, copy)
    return compress_file(copy) if kind == "fits.gz" else copy


def pixels(path: Path) -> tuple[np.ndarray, ...]:
    if path.suffix != ".asdf":
        return read_pixels(path)
    with datamodels.open(path) as model:
        return tuple(np.array(array) for array in (model.data, model.err, model.dq))


def assert_same_pixels(a: Any, b: Any) -> None:
    for one, other in zip(a, b, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize(
    ("target", "backgrounds", "sigma", "maxiters"),
    [
        (None, (None,) * 4, 1.3, None),
        (None, (3, None), 1.3, 1),
        (2, (None, 2, 4), 1.0, None),
        (2, (None,) * 3, 3.0, 0),
        (2, (), 3.0, None),
    ],
)
def test_files_give_the_bits_that_models_give(
    folder: Path,
    exposures: Any,
    target: int | None,
    backgrounds: tuple[int | None, ...],
    sigma: float,
    maxiters: int | None,
) -> None:
    path, paths = exposures(target, backgrounds)
    how = {"sigma": sigma, "maxiters": maxiters}
    outcome = offsky.subtract_file(path, paths, "result.fits", **how)
    models = [datamodels.open(each) for each in (path, *paths)]
    results = [offsky.subtract(path, paths, **how), offsky.subtract(models[0], models[1:], **how)]
    for model in results:
        assert_same_pixels((model.data, model.err, model.dq), pixels(Path("result.fits")))
        assert model.meta.cal_step.bkg_subtract == outcome.status
    if paths:
        offsky.average_file(paths, "average.fits", **how)
        results += [offsky.average(paths, **how), offsky.average(models[1:], **how)]
        for model in results[2:]:
            assert type(model) is datamodels.ImageModel
            assert_same_pixels((model.data, model.err, model.dq), pixels(Path("average.fits")))
            n_kept = model.instance["extra_fits"]["N_KEPT"]["data"]
            np.testing.assert_array_equal(n_kept, fits.getdata("average.fits", "N_KEPT"))
    for model in (*models, *results):
        model.close()


@pytest.mark.parametrize(("rows", "threads"), [(1, 3), (36, 4), (99, 1)])
def test_any_block_height_and_number_of_threads_gives_the_same_bytes(
    folder: Path, exposures: Any, monkeypatch: pytest.MonkeyPatch, rows: int, threads: int
) -> None:
    target, backgrounds = exposures(2, (None, 3, None))
    first = offsky.subtract_file(
        target, backgrounds, "first.fits", combined_path="a1.fits", sigma=1.3, threads=1
    )
    monkeypatch.setattr("offsky.combine.blocks.block_rows", lambda *given: rows)
    other = offsky.subtract_file(
        target, backgrounds, "other.fits", combined_path="a2.fits", sigma=1.3, threads=threads
    )
    for a, b in (("first.fits", "other.fits"), ("a1.fits", "a2.fits")):
        for (_, _, data), (_, _, same) in zip(
            fits_parts(Path(a)), fits_parts(Path(b)), strict=True
        ):
            assert data == same
    assert (first.n_rejected, first.median_level) == (other.n_rejected, other.median_level)


@pytest.mark.parametrize("kind", FORMATS)
def test_input_files_stay_as_they_are(folder: Path, exposures: Any, kind: str) -> None:
    inputs = [stored_as(path, kind) for path in (lambda t, b: [t, *b])(*exposures(2, (None, 3)))]
    before = {path: (file_digest(path), path.stat().st_mtime_ns) for path in inputs}
    offsky.subtract_file(inputs[0], inputs[1:], f"r{inputs[0].suffix}", overwrite=True)
    offsky.subtract(inputs[0], inputs[1:]).close()
    offsky.average(inputs[1:]).close()
    assert {path: (file_digest(path), path.stat().st_mtime_ns) for path in inputs} == before


def test_models_passed_in_stay_as_they_are(folder: Path, exposures: Any) -> None:
    path, paths = exposures(2, (None, 3))
    models = [datamodels.open(each) for each in (path, *paths)]
    # One without ERR and DQ: looking for them must not create them.
    models.append(datamodels.ImageModel(np.ones((37, 23), "f4")))
    models[-1].update(models[1])
    before = [model_state(model) for model in models]
    result = offsky.subtract(models[0], models[1:], force=True)
    offsky.average(models[1:], force=True).close()
    assert [model_state(model) for model in models] == before
    for name in ("data", "dq", "err"):
        assert not np.shares_memory(getattr(result, name), models[0].instance[name])
    for model in (result, *models):
        model.close()


@pytest.mark.parametrize(
    ("kind", "n", "checksums"),
    [
        ("fits", 2, False),
        ("fits", 2, True),
        ("fits", 0, True),
        ("fits.gz", 2, True),
        ("fz", 2, False),
        ("fz", 0, False),
    ],
)
def test_everything_that_the_step_does_not_own_arrives_unchanged(
    folder: Path, exposures: Any, kind: str, n: int, checksums: bool
) -> None:
    keywords = {"MYKEY": "unknown to all schemas", "MYNUMBER": 1.25}
    target, backgrounds = exposures(
        None, (None,) * n, variances=True, keywords=keywords, extra_table=True
    )
    if checksums:
        with fits.open(target, memmap=False) as hdus:
            hdus.writeto(target, overwrite=True, checksum=True)
    target = stored_as(target, kind)
    offsky.subtract_file(target, backgrounds, "result.fits")
    before, after = fits_parts(target), fits_parts(folder / "result.fits")
    assert [name for name, _, _ in after] == [name for name, _, _ in before]
    assert {"ASDF", "OFFSKY_EXTRA", "VAR_POISSON"} < {name for name, _, _ in after}
    assert foreign_cards(after[0][1]) == foreign_cards(before[0][1])
    assert any(card.startswith(b"MYNUMBER=                 1.25") for card in
               foreign_cards(after[0][1]))  # fmt: skip
    for (name, header, data), (_, old_header, old_data) in zip(after[1:], before[1:], strict=True):
        if n == 0 or name not in ("SCI", "DQ"):
            assert data == old_data, name
            assert header == old_header, name
        elif kind != "fz":
            assert foreign_cards(header) == foreign_cards(old_header), name
    with fits.open("result.fits", checksum=True) as hdus:  # it warns of wrong ones
        assert len(hdus) == len(after)


@pytest.mark.parametrize("model", ["ImageModel", "CubeModel", "IFUImageModel", "SlitModel"])
def test_results_have_the_type_of_the_target_and_validate(
    folder: Path, noisy: Any, model: Any
) -> None:
    for i in range(3):
        sci, err, dq = noisy(i, 2 if model == "CubeModel" else None)
        write_exposure(folder / f"{i}.fits", sci=sci, err=err, dq=dq, model=model)
    offsky.subtract_file("0.fits", ["1.fits", "2.fits"], "result.fits")
    kind = getattr(datamodels, model)
    with kind("0.fits") as target, kind("result.fits") as written:
        result = offsky.subtract(target, ["1.fits", "2.fits"])
        result.save("saved.fits")
        assert_same_pixels(pixels(Path("saved.fits")), pixels(Path("result.fits")))
        for each in (written, result):
            assert type(each) is kind
            each.validate()  # raises: warnings are errors
            assert each.meta.cal_step.bkg_subtract == "COMPLETE"
            assert each.meta.instrument.name == target.meta.instrument.name
        result.close()
    with datamodels.open("result.fits") as opened, datamodels.open("0.fits") as before:
        assert type(opened) is type(before)
    header = fits.getheader("result.fits")
    assert header["S_BKDSUB"] == "COMPLETE"
    assert header["FILENAME"] == "result.fits"


@pytest.mark.parametrize(
    ("kind", "output", "nints"),
    [
        ("fits", "r.fits.gz", None),
        ("fits", "r.asdf", 2),
        ("fits.gz", "r.fits", 2),
        ("fz", "r.fits", 2),
        ("fz", "r.fits.gz", None),
        ("asdf", "r.fits", None),
        ("asdf", "r.fits.gz", None),
        ("asdf", "r.asdf", 2),
    ],
)
def test_every_format_of_input_and_output_gives_the_same_pixels(
    folder: Path, exposures: Any, kind: str, output: str, nints: int | None
) -> None:
    target, backgrounds = exposures(nints, (None, 3, None))
    offsky.subtract_file(target, backgrounds, "plain.fits")
    inputs = [stored_as(path, kind) for path in (target, *backgrounds)]
    outcome = offsky.subtract_file(inputs[0], inputs[1:], output)
    assert outcome.output == output
    assert_same_pixels(pixels(Path(output)), pixels(Path("plain.fits")))
    assert (Path(output).read_bytes()[:2] == b"\x1f\x8b") == output.endswith(".gz")
    assert sorted(path.name for path in folder.iterdir()) == ["inputs", "plain.fits", output]
    opened = datamodels.open(output)
    assert opened.meta.cal_step.bkg_subtract == "COMPLETE"
    opened.close()


@pytest.mark.parametrize(
    ("target_types", "types"),
    [
        (("f8", "f4"), ("f4", "f4")),
        (("f8", "f8"), ("f8", "f4")),
        (("f4", "f8"), ("f8", "f4")),
        (("f4", "f4"), ("f4", "f8")),
    ],
)
def test_sci_and_err_may_differ_in_precision(
    folder: Path, noisy: Any, target_types: tuple[str, str], types: tuple[str, str]
) -> None:
    for i, (sci_type, err_type) in enumerate([target_types, types, ("f4", "f4")]):
        sci, err, dq = noisy(i)
        # More digits than float32 holds, where there is room for them.
        sci = sci.astype(sci_type) + np.array(1e-9, sci_type)
        write_exposure(folder / f"{i}.fits", sci=sci, err=err.astype(err_type), dq=dq)
    offsky.subtract_file("0.fits", ["1.fits", "2.fits"], "r.fits", combined_path="average.fits")
    target, average, result = (read_pixels(Path(f"{n}.fits")) for n in ("0", "average", "r"))
    assert (result[0].dtype, result[1].dtype) == target_types
    level = np.where(np.isfinite(average[0]), average[0], np.float32(0))
    assert_same_bits(result[0], target[0] - level)
    assert_same_bits(result[1], target[1])
    # A model knows float32 only, and rounds when the file is opened.
    model = offsky.subtract("0.fits", ["1.fits", "2.fits"])
    assert_same_bits(np.asarray(model.data, "f4"), target[0].astype("f4") - level)
    model.close()


@pytest.mark.parametrize("order", ["<", ">"])
def test_models_may_hold_arrays_of_any_byte_order(noisy: Any, order: str) -> None:
    made = []
    for i in range(3):
        model = datamodels.ImageModel((37, 23))
        for name, array in zip(("data", "err", "dq"), noisy(i), strict=True):
            model.instance[name] = array.astype(array.dtype.newbyteorder(order))
        made.append(model)
    result = offsky.subtract(made[0], made[1:])
    average = offsky.clipped_mean(*(np.stack(part) for part in zip(
        *(noisy(i) for i in (1, 2)), strict=True)))  # fmt: skip
    level = np.where(average.n_kept > 0, average.sci, np.float32(0))
    np.testing.assert_array_equal(result.data, noisy(0)[0] - level)
    np.testing.assert_array_equal(result.dq, noisy(0)[2] | average.dq)
    for model in (result, *made):
        model.close()


def test_integers_on_disk_are_subtracted_as_numbers(folder: Path) -> None:
    write_exposure(folder / "t.fits", sci=np.full((4, 5), 7, "f4"))
    write_exposure(folder / "b.fits", sci=np.full((4, 5), 0.25, "f4"))
    with fits.open("t.fits", memmap=False) as hdus:
        hdus["SCI"].data = hdus["SCI"].data.astype("i2")
        hdus.writeto("t.fits", overwrite=True)
    offsky.subtract_file("t.fits", ["b.fits"], "r.fits")
    assert (fits.getdata("r.fits", "SCI") == 6.75).all()


@pytest.mark.parametrize("kind", ["fits", "asdf"])
def test_without_backgrounds_the_result_is_a_copy_and_says_so(
    folder: Path, exposures: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    target = stored_as(exposures(2, ())[0], kind)
    outcome = offsky.subtract_file(target, [], f"r.{kind}", combined_path=None)
    assert (outcome.status, outcome.backgrounds, outcome.median_level) == ("SKIPPED", (), None)
    assert "no background to subtract" in caplog.text
    assert_same_pixels(pixels(Path(f"r.{kind}")), pixels(target))
    with datamodels.open(f"r.{kind}") as written:
        assert written.meta.cal_step.bkg_subtract == "SKIPPED"
    caplog.clear()
    model = offsky.subtract(target, [])
    assert model.meta.cal_step.bkg_subtract == "SKIPPED"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    model.close()


def test_uncovered_pixels_stay_and_are_counted_and_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sci = np.full((6, 5), 10.0, "f4")
    write_exposure(folder / "t.fits", sci=np.full((2, 6, 5), 3.0, "f4"))
    sci[2, 1:4] = np.nan
    write_exposure(folder / "b1.fits", sci=sci)
    sci[1, :] = np.inf
    write_exposure(folder / "b2.fits", sci=sci, dq=4)
    outcome = offsky.subtract_file("t.fits", ["b1.fits", "b2.fits"], "r.fits")
    assert outcome.n_uncovered == 3
    assert "3 pixels have no background sample" in caplog.text
    expected = np.full((2, 6, 5), -7.0)
    expected[:, 2, 1:4] = 3.0
    np.testing.assert_array_equal(fits.getdata("r.fits", "SCI"), expected)
    assert (fits.getdata("r.fits", "DQ") == 4).all()
    assert fits.getheader("r.fits")["OFFNUNCV"] == 3


def test_backgrounds_without_any_sample_subtract_nothing(folder: Path) -> None:
    write_exposure(folder / "t.fits", sci=np.ones((4, 5), "f4"))
    write_exposure(folder / "b.fits", sci=np.full((4, 5), np.nan, "f4"))
    outcome = offsky.subtract_file("t.fits", ["b.fits"], "r.fits")
    assert (outcome.n_uncovered, outcome.median_level) == (20, None)
    assert (fits.getdata("r.fits", "SCI") == 1).all()


def test_one_background_is_subtracted_as_it_is(folder: Path, exposures: Any) -> None:
    target, (background,) = exposures(None, (None,))
    outcome = offsky.subtract_file(target, [background], "r.fits", sigma=0.5)
    before, level, after = (pixels(path) for path in (target, background, Path("r.fits")))
    finite = np.isfinite(level[0])
    assert_same_bits(after[0][finite], before[0][finite] - level[0][finite])
    assert_same_bits(after[0][~finite], before[0][~finite])
    assert_same_bits(after[2], before[2] | level[2])
    assert outcome.n_rejected == (0,)


@pytest.mark.parametrize(
    ("missing", "words"), [("ERR", "errors count as unknown"), ("DQ", "flags as none")]
)
def test_a_background_without_err_or_dq_is_used_with_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture, missing: str, words: str
) -> None:
    write_exposure(folder / "t.fits", sci=np.full((4, 5), 9.0, "f4"), dq=1)
    write_exposure(folder / "b1.fits", sci=np.full((4, 5), 1.0, "f4"), err=0.6, dq=2)
    write_exposure(
        folder / "b2.fits", sci=np.full((4, 5), 3.0, "f4"), err=0.6, dq=4, without=[missing]
    )
    offsky.subtract_file("t.fits", ["b1.fits", "b2.fits"], "r.fits", combined_path="a.fits")
    assert f"b2.fits: no {missing} image" in caplog.text
    assert words in caplog.text
    sci, err, dq = read_pixels(folder / "a.fits")
    assert (sci == 2).all()
    # An unknown ERR counts as the mean variance of the known ones (decision 0004).
    np.testing.assert_allclose(err, 0.6 / np.sqrt(2), rtol=1e-6)
    assert (dq == (2 if missing == "DQ" else 6)).all()
    assert (fits.getdata("r.fits", "DQ") == (3 if missing == "DQ" else 7)).all()


def test_the_combined_background_is_the_average_and_can_be_subtracted_again(
    folder: Path, exposures: Any
) -> None:
    target, backgrounds = exposures(None, (None, 2, None))
    offsky.subtract_file(target, backgrounds, "r.fits", combined_path="c.fits", sigma=1.3)
    offsky.average_file(backgrounds, "a.fits", sigma=1.3)
    assert_same_pixels(pixels(Path("c.fits")), pixels(Path("a.fits")))
    offsky.subtract_file(target, ["c.fits"], "again.fits")
    assert_same_pixels(pixels(Path("again.fits")), pixels(Path("r.fits")))
    with datamodels.open("c.fits") as model:
        assert type(model) is datamodels.ImageModel
        model.validate()
    table = fits.getdata("c.fits", "BKGINPUT")
    assert list(table["NAME"]) == [path.name for path in backgrounds]


@pytest.mark.parametrize(
    ("kind", "link"),
    [("fits", True), ("fits.gz", False), ("fits.gz", True), ("fz", False), ("asdf", True)],
)
def test_a_background_given_twice_is_noticed_in_every_format(
    folder: Path, exposures: Any, kind: str, link: bool
) -> None:
    target, (background, _) = exposures(None, (None, None))
    target, background = stored_as(target, kind), stored_as(background, kind)
    other = background
    if link:
        other = background.with_name(f"other{''.join(background.suffixes)}")
        other.symlink_to(background)
    before = tree(folder)
    with pytest.raises(ExposureMismatchError, match="is named twice"):
        offsky.subtract_file(target, [background, other], "r.fits")
    with pytest.raises(ExposureMismatchError, match="is the target"):
        offsky.subtract_file(target, [background, target], "r.fits")
    assert tree(folder) == before


@pytest.mark.parametrize("name", ["été.fits", "ночь_rate.fits", "a\nb.fits", "x" * 200 + ".fits"])
def test_names_that_fits_cannot_hold_are_escaped_in_headers(
    folder: Path, exposures: Callable[..., Any], name: str
) -> None:
    target, (background,) = exposures(None, (None,))
    named = background.rename(background.with_name(name))
    (folder / "out").mkdir()
    offsky.subtract_file(target, [named], folder / "out" / name, combined_path="c.fits")
    history = "".join(fits.getheader(folder / "out" / name)["HISTORY"])
    escaped = name.encode("unicode_escape" if "\n" in name else "ascii", "backslashreplace")
    assert f"offsky background: {escaped.decode()}" in history
    model = offsky.subtract(target, [named])
    model.save(folder / "model.fits")
    model.close()
