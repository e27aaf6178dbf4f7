"""errors="propagate": the average's variances are in the target's, and everything says so."""

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.stats import sigma_clip
from click.testing import CliRunner

import offsky
from offsky.command.main import cli
from offsky.io.fits import FitsExposure
from offsky.io.source import LocalFile, Span
from offsky.testing import assert_same_bits, write_exposure

SHAPE = (19, 13)
VARIANCES = ("VAR_POISSON", "VAR_RNOISE")
ERRORS = ("ERR", *VARIANCES)
Arrays = dict[str, np.ndarray]
# A sum or a product of float32 values, rounded once or twice more.
ROUNDING = 3 * 2.0**-24


def pixels(number: int, nints: int | None, *, holes: bool = True) -> Arrays:
    """Return SCI, ERR, VAR_POISSON and VAR_RNOISE that go together, with outliers and NaN."""
    rng = np.random.default_rng([4, number, nints or 0])
    shape = SHAPE if nints is None else (nints, *SHAPE)
    sci = rng.normal(10.0 * number, 1.0, shape)
    sci[rng.random(shape) < 0.05] += 300.0
    variances = {name: rng.uniform(0.1, 2.0, shape).astype(np.float32) for name in VARIANCES}
    if holes:
        sci[rng.random(shape) < 0.05] = np.nan
        sci[..., 3, 4] = np.nan
    err = np.sqrt(sum(each.astype(np.float64) for each in variances.values()))
    return {"SCI": sci.astype(np.float32), "ERR": err.astype(np.float32), **variances}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write an exposure with such pixels; `without` names extensions to leave out."""

    def make(
        number: int,
        nints: int | None = None,
        *,
        without: Sequence[str] = (),
        extra: Arrays | None = None,
        **how: Any,
    ) -> Path:
        arrays = {**pixels(number, nints), **(extra or {})}
        path = tmp_path / f"exposure{number}_{'rate' if nints is None else 'rateints'}.fits"
        has_variances = not set(VARIANCES) <= set(without)
        missing = [name for name in without if name not in VARIANCES]
        write_exposure(
            path,
            sci=arrays.pop("SCI"),
            err=arrays.pop("ERR"),
            variances=has_variances,
            without=missing,
            **how,
        )
        with fits.open(path, memmap=False) as hdus:
            for name, array in arrays.items():
                if name in hdus and name not in without:
                    hdus[name].data = array
                elif name in (extra or {}):
                    # Before ASDF's own extension, as stdatamodels writes it.
                    hdus.insert(len(hdus) - 1, fits.ImageHDU(array, name=name))
            for name in without:
                if name in hdus:
                    del hdus[name]
            hdus.writeto(path, overwrite=True)
        return path

    return make


def read(path: Path) -> Arrays:
    with fits.open(path, memmap=False) as hdus:
        names = ("SCI", "DQ", "ERR", *VARIANCES, "VAR_FLAT")
        return {name: np.array(hdus[name].data) for name in names if name in hdus}


def kept_mean(samples: Arrays) -> tuple[Arrays, np.ndarray]:
    """Average along the first axis; variances of the mean, by plain NumPy."""
    sci = samples["SCI"].astype(np.float64)
    clipped = sigma_clip(np.ma.masked_invalid(sci), sigma=3.0, maxiters=None, axis=0)
    kept = ~np.ma.getmaskarray(clipped)
    n = kept.sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.where(kept, sci, 0).sum(axis=0) / n
        variances = {
            name: np.where(kept, samples[name].astype(np.float64), 0).sum(axis=0) / n**2
            for name in VARIANCES
        }
    return {"SCI": mean, **variances}, n


def expected_average(numbers: Sequence[tuple[int, int | None]]) -> tuple[Arrays, np.ndarray]:
    images = [
        pixels(number, None) if nints is None else kept_mean(pixels(number, nints))[0]
        for number, nints in numbers
    ]
    return kept_mean(
        {name: np.stack([image[name] for image in images]) for name in ("SCI", *VARIANCES)}
    )


def subtracted(target: Path, backgrounds: Sequence[Path], **how: Any) -> Arrays:
    """Return what is in the product; with errors propagated unless said otherwise."""
    output = target.with_name("output_bsub.fits")
    how = {"errors": "propagate", **how}
    offsky.subtract_file(target, backgrounds, output, overwrite=True, **how)
    return read(output)


# The formulas


@pytest.mark.slow
@pytest.mark.parametrize("target", [None, 3])
@pytest.mark.parametrize("backgrounds", [(None,), (None, None, None), (4, 5), (None, 12, 3)])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_variances_are_the_target_s_and_those_of_the_mean(
    write: Any, target: int | None, backgrounds: tuple[int | None, ...], scale: float
) -> None:
    numbers = list(enumerate(backgrounds, 1))
    product = subtracted(write(0, target), [write(*each) for each in numbers], target_scale=scale)
    before, (average, n_kept) = pixels(0, target), expected_average(numbers)
    covered = n_kept > 0
    assert not covered[3, 4]
    for name in VARIANCES:
        added = np.where(covered, scale**2 * average[name], 0)
        np.testing.assert_allclose(product[name], before[name] + added, rtol=ROUNDING)
        assert_same_bits(product[name][..., ~covered], before[name][..., ~covered])
    assert_same_bits(product["ERR"][..., ~covered], before["ERR"][..., ~covered])
    total = sum(product[name].astype(np.float64) for name in VARIANCES)
    np.testing.assert_allclose(product["ERR"].astype(np.float64) ** 2, total, rtol=ROUNDING)
    sci = before["SCI"] - np.where(covered, scale * average["SCI"], 0)
    np.testing.assert_allclose(product["SCI"], sci, rtol=1e-5, atol=1e-5)


def test_var_flat_counts_and_stays(write: Any) -> None:
    flat = np.full(SHAPE, 3.0, dtype=np.float32)
    target = write(0, extra={"VAR_FLAT": flat})
    product = subtracted(target, [write(1), write(2)])
    assert_same_bits(product["VAR_FLAT"], flat)
    total = sum(product[name].astype(np.float64) for name in (*VARIANCES, "VAR_FLAT"))
    changed = product["ERR"] != read(target)["ERR"]
    assert changed.sum() > 0.9 * changed.size
    np.testing.assert_allclose(product["ERR"][changed] ** 2.0, total[changed], rtol=ROUNDING)


def test_nan_stays_where_the_target_s_are_nan(write: Any) -> None:
    arrays = pixels(0, None)
    arrays["ERR"][0, :3] = np.nan
    arrays["VAR_POISSON"][0, 2:5] = np.nan
    extra = {name: arrays[name] for name in ERRORS}
    product = subtracted(write(0, extra=extra), [write(1), write(2)])
    assert np.isnan(product["ERR"][0, :3]).all()
    assert np.isnan(product["VAR_POISSON"][0, 2:5]).all()
    assert np.isfinite(product["VAR_RNOISE"]).all()
    # Where only a variance is unknown, ERR goes its own way.
    average = offsky.average([write(1), write(2)], errors="propagate")
    with average:
        share = average.var_poisson.astype(np.float64) + average.var_rnoise
    expected = np.sqrt(arrays["ERR"][0, 3:5].astype(np.float64) ** 2 + share[0, 3:5])
    np.testing.assert_allclose(product["ERR"][0, 3:5], expected, rtol=ROUNDING)


def test_without_propagation_errors_stay_bit_for_bit(write: Any) -> None:
    target = write(0, 3)
    product = subtracted(target, [write(1), write(2)], errors="none")
    for name in ERRORS:
        assert_same_bits(product[name], read(target)[name])


def test_wide_errors_stay_wide(write: Any) -> None:
    target = write(0, extra={"ERR": pixels(0, None)["ERR"].astype(np.float64)})
    product = subtracted(target, [write(1), write(2)])
    assert product["ERR"].dtype.itemsize == 8
    covered = product["VAR_POISSON"] != read(target)["VAR_POISSON"]
    total = sum(product[name].astype(np.float64) for name in VARIANCES)
    np.testing.assert_allclose(product["ERR"][covered] ** 2, total[covered], rtol=1e-15)


# Files and models, copies and rewrites


@pytest.mark.slow
@pytest.mark.parametrize("target", [None, 3])
@pytest.mark.parametrize("without", [(), VARIANCES, ("ERR",), ("ERR", *VARIANCES)])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"uncovered": "nan", "target_scale": 1.5},
        {"combine": "median", "dq": "kept"},
        {"weight": "integrations", "dq": "all"},
        {"errors": "none", "uncovered": "nan"},
    ],
)
def test_files_and_models_give_the_same_bits(
    write: Any, target: int | None, without: tuple[str, ...], how: dict[str, Any]
) -> None:
    how = {"errors": "propagate", **how}
    paths = [write(1), write(2, 4), write(3)]
    first = write(0, target, without=without)
    product = subtracted(first, paths, **how)
    with offsky.subtract(first, paths, **how) as model:
        for name in ("SCI", "DQ", *ERRORS):
            attribute = {"SCI": "data"}.get(name, name.lower())
            if name in product:
                assert_same_bits(getattr(model, attribute), product[name])


def test_a_compressed_target_gives_the_same_bits(write: Any, tmp_path: Path) -> None:
    target, backgrounds = write(0), [write(1), write(2)]
    packed = tmp_path / "packed_rate.fits"
    with fits.open(target) as hdus:
        for i, hdu in enumerate(hdus):
            if hdu.name in ("SCI", "DQ", *ERRORS):
                lossless = {"compression_type": "GZIP_2", "quantize_level": 0.0}
                hdus[i] = fits.CompImageHDU(hdu.data, hdu.header, **lossless)
        hdus.writeto(packed)
    for how in ({}, {"uncovered": "nan"}):
        plain, rewritten = (
            subtracted(target, backgrounds, **how),
            subtracted(packed, backgrounds, **how),
        )
        assert set(plain) == set(rewritten)
        for name, array in plain.items():
            assert_same_bits(rewritten[name], array)


def test_an_asdf_target_and_background_give_the_same_bits(write: Any, tmp_path: Path) -> None:
    from stdatamodels.jwst import datamodels

    paths = [write(0), write(1), write(2)]
    trees = [path.with_suffix(".asdf") for path in paths]
    for path, tree in zip(paths, trees, strict=True):
        with datamodels.open(path) as model:
            model.save(tree)
    product = subtracted(paths[0], paths[1:])
    for name, array in subtracted(paths[0], trees[1:]).items():
        assert_same_bits(array, product[name])
    offsky.subtract_file(trees[0], trees[1:], tmp_path / "o_bsub.asdf", errors="propagate")
    with datamodels.open(tmp_path / "o_bsub.asdf") as model:
        assert_same_bits(model.err, product["ERR"])
        assert_same_bits(model.var_rnoise, product["VAR_RNOISE"])


def test_inputs_are_not_changed(write: Any) -> None:
    from stdatamodels.jwst import datamodels

    paths = [write(0), write(1), write(2)]
    before = [path.read_bytes() for path in paths]
    with (
        datamodels.open(paths[0]) as target,
        datamodels.open(paths[1]) as background,
        offsky.subtract(target, [background, paths[2]], errors="propagate") as result,
    ):
        assert (result.err > target.err).sum() > 0.9 * target.err.size
        assert_same_bits(target.err, pixels(0, None)["ERR"])
        assert_same_bits(background.var_poisson, pixels(1, None)["VAR_POISSON"])
    assert before == [path.read_bytes() for path in paths]


# What is missing


def test_without_variances_err_alone_is_updated(
    write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    target, backgrounds = write(0, without=VARIANCES), [write(1), write(2, without=VARIANCES)]
    product = subtracted(target, backgrounds)
    assert "exposure0_rate.fits: no VAR_POISSON and VAR_RNOISE; ERR alone" in caplog.text
    assert "exposure2_rate.fits: no VAR_POISSON and VAR_RNOISE; of the average" in caplog.text
    assert not set(VARIANCES) & set(product)
    with offsky.average(backgrounds) as average:
        added = average.err.astype(np.float64) ** 2
    before = read(target)["ERR"]
    expected = np.where(np.isnan(added), before, np.sqrt(before.astype(np.float64) ** 2 + added))
    np.testing.assert_allclose(product["ERR"], expected, rtol=ROUNDING)


def test_var_rnoise_takes_what_is_not_divided(
    write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    target, backgrounds = write(0), [write(1), write(2, without=VARIANCES)]
    product = subtracted(target, backgrounds)
    assert "whole variance is added to VAR_RNOISE" in caplog.text
    before = read(target)
    assert_same_bits(product["VAR_POISSON"], before["VAR_POISSON"])
    with offsky.average(backgrounds) as average:
        added = np.nan_to_num(average.err.astype(np.float64) ** 2)
    np.testing.assert_allclose(product["VAR_RNOISE"], before["VAR_RNOISE"] + added, rtol=ROUNDING)


@pytest.mark.parametrize("missing", VARIANCES)
def test_one_variance_of_the_target_takes_both(write: Any, missing: str) -> None:
    (there,) = set(VARIANCES) - {missing}
    both = subtracted(write(0), [write(1), write(2)])
    before = pixels(0, None)
    target = write(0)
    with fits.open(target, memmap=False) as hdus:
        del hdus[missing]
        hdus.writeto(target, overwrite=True)
    product = subtracted(target, [write(1), write(2)])
    added = sum(both[name].astype(np.float64) - before[name] for name in VARIANCES)
    np.testing.assert_allclose(product[there] - before[there].astype(np.float64), added, atol=1e-6)


def test_backgrounds_without_err_are_said_to_tell_nothing(
    write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    target, background = write(0), write(1, without=ERRORS)
    output = target.with_name("o.fits")
    outcome = offsky.subtract_file(target, [background], output, errors="propagate")
    assert outcome.n_err_unknown == np.isfinite(pixels(1, None)["SCI"]).sum()
    assert f"not known at {outcome.n_err_unknown} pixels" in caplog.text
    for name in ERRORS:
        assert_same_bits(read(output)[name], read(target)[name])


def test_a_target_without_errors_is_said_to_have_none(
    write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    product = subtracted(write(0, without=ERRORS), [write(1)])
    assert "no errors are propagated" in caplog.text
    assert not set(ERRORS) & set(product)


def test_unknown_variances_of_a_background_are_not_taken_for_zero(write: Any) -> None:
    arrays = pixels(1, None)
    arrays["VAR_POISSON"][0, :5] = np.nan
    target, known = write(0), subtracted(write(0), [write(1)])
    background = write(1, extra={"VAR_POISSON": arrays["VAR_POISSON"]})
    product = subtracted(target, [background])
    # The whole of it is known by ERR.
    covered = np.isfinite(arrays["SCI"][0, :5])
    np.testing.assert_allclose(
        product["ERR"][0, :5][covered], known["ERR"][0, :5][covered], rtol=ROUNDING
    )
    assert_same_bits(product["ERR"][1:], known["ERR"][1:])


# What is read


def bytes_read(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]
) -> dict[str, list[tuple[int, int]]]:
    """Return the spans of bytes that were read of each file's pixels."""
    spans: dict[str, list[tuple[int, int]]] = {}

    def spy(source: LocalFile, wanted: Sequence[Span]) -> None:
        known = spans.setdefault(Path(source.name).name, [])
        known += [(start, start + len(memory)) for start, memory in wanted]
        original(source, wanted)

    original = LocalFile.read
    with monkeypatch.context() as patch:
        patch.setattr(LocalFile, "read", spy)
        work()
    return spans


def within(path: Path, spans: list[tuple[int, int]]) -> dict[str, int]:
    """Return how many bytes of each extension are in the spans."""
    with FitsExposure(path) as exposure:
        return {
            extent.name: sum(
                max(0, min(end, extent.end) - max(start, extent.data_start))
                for start, end in spans
            )
            for extent in exposure.extents
        }


@pytest.mark.parametrize("how", [{}, {"sigma": 2.0, "dq": "kept", "reject": "error"}])
def test_no_byte_of_a_variance_is_read_unless_wanted(
    write: Any, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    target, backgrounds = write(0), [write(1), write(2, 3)]
    spans = bytes_read(monkeypatch, lambda: subtracted(target, backgrounds, errors="none", **how))
    for path in (target, *backgrounds):
        read_of = within(path, spans[path.name])
        assert read_of["SCI"] > 0
        assert read_of["VAR_POISSON"] == read_of["VAR_RNOISE"] == 0
    assert within(target, spans[target.name])["ERR"] == 0


def test_each_byte_is_read_once_where_errors_are_propagated(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, backgrounds = write(0, 2), [write(1), write(2, 3)]
    spans = bytes_read(monkeypatch, lambda: subtracted(target, backgrounds))
    for path in (target, *backgrounds):
        read_of = within(path, spans[path.name])
        n_samples = read(path)["SCI"].size
        assert {read_of[name] for name in ("SCI", "DQ", *ERRORS)} == {4 * n_samples}


def test_backgrounds_without_variances_do_not_have_those_of_others_read(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, backgrounds = write(0), [write(1), write(2, without=VARIANCES)]
    spans = bytes_read(monkeypatch, lambda: subtracted(target, backgrounds))
    assert within(backgrounds[0], spans[backgrounds[0].name])["VAR_POISSON"] == 0


# The average


@pytest.mark.parametrize("role", ["target", "background"])
def test_a_damaged_variance_is_told_in_one_line_where_it_is_wanted(
    tmp_path: Path, role: str
) -> None:
    paths = {
        name: write_exposure(
            tmp_path / f"{name}.fits", sci=np.ones((8, 9), np.float32), variances=True
        )
        for name in ("target", "background")
    }
    content = bytearray(paths[role].read_bytes())
    end = content.index(b"END".ljust(80), content.index(b"'VAR_POISSON'"))
    content[end : end + 160] = b"BZERO   = (what".ljust(80) + b"END".ljust(80)
    paths[role].write_bytes(content)
    output = tmp_path / "out.fits"
    # Nobody else looks at it.
    offsky.subtract_file(paths["target"], [paths["background"]], tmp_path / "plain.fits")
    with pytest.raises(offsky.ExposureError, match=rf"{role}\.fits: [^\n]+$"):
        offsky.subtract_file(paths["target"], [paths["background"]], output, errors="propagate")
    assert not output.exists()


def test_the_saved_average_has_variances_and_is_a_background_with_them(
    write: Any, tmp_path: Path
) -> None:
    target, backgrounds = write(0), [write(1), write(2, 4), write(3)]
    combined, alone = tmp_path / "combined.fits", tmp_path / "alone.fits"
    product = subtracted(target, backgrounds, combined_path=combined)
    offsky.average_file(backgrounds, alone, errors="propagate")
    with offsky.average(backgrounds, errors="propagate") as model:
        for name in ("SCI", "DQ", *ERRORS):
            attribute = {"SCI": "data"}.get(name, name.lower())
            assert_same_bits(read(combined)[name], getattr(model, attribute))
            assert_same_bits(read(alone)[name], getattr(model, attribute))
        model.validate()
        again = tmp_path / "model_average.fits"
        model.save(again)
    for average in (combined, alone, again):
        for name, array in subtracted(target, [average]).items():
            assert_same_bits(array, product[name])
    header = fits.getheader(alone)
    assert "correlated" in str(header["HISTORY"])


def test_an_average_without_propagation_has_no_variances(write: Any, tmp_path: Path) -> None:
    offsky.average_file([write(1), write(2)], tmp_path / "average.fits")
    assert not set(VARIANCES) & set(read(tmp_path / "average.fits"))


def test_a_subarray_s_variances_lie_where_it_does(write: Any, tmp_path: Path) -> None:
    small = {name: array[5:15, 2:10] for name, array in pixels(1, None).items()}
    window = {"xstart": 3, "ystart": 6, "xsize": 8, "ysize": 10}
    background = write_exposure(
        tmp_path / "small_rate.fits",
        sci=small["SCI"],
        err=small["ERR"],
        variances=True,
        metadata={f"meta.subarray.{name}": value for name, value in window.items()},
    )
    with fits.open(background, memmap=False) as hdus:
        for name in VARIANCES:
            hdus[name].data = small[name]
        hdus.writeto(background, overwrite=True)
    target = write(0)
    product, whole = subtracted(target, [background]), subtracted(target, [write(1)])
    inside = np.zeros(SHAPE, dtype=bool)
    inside[5:15, 2:10] = True
    for name in ERRORS:
        assert_same_bits(product[name][inside], whole[name][inside])
        assert_same_bits(product[name][~inside], read(target)[name][~inside])


# Programmes


@pytest.mark.parametrize("source", ["dithers", "dedicated"])
@pytest.mark.parametrize(
    "how",
    [
        {"level": "none", "weight": "integrations"},
        {"level": "offset", "weight": "variance"},
        {"target_scale": "fit"},
    ],
)
def test_programmes_make_what_single_runs_make(
    write: Any, tmp_path: Path, source: str, how: dict[str, Any]
) -> None:
    options = ["--profile", "offsky"]
    for name, value in how.items():
        options += [f"--{name.replace('_', '-')}", value]
    numbers = [(1, None), (2, 3), (3, None), (4, None)]
    paths = []
    for number, nints in numbers:
        background = source == "dedicated" and number > 2
        metadata = {"meta.observation.bkgdtarg": background}
        paths.append(write(number, nints, metadata=metadata))
    folder = tmp_path / "products"
    said = ["run", *paths, "--from", source, "-o", folder, *options]
    result = CliRunner().invoke(cli, [str(each) for each in said])
    assert result.exit_code == 0, result.output
    made = sorted(folder.glob("*.fits"))
    assert len(made) == (4 if source == "dithers" else 2)
    for path, target in zip(made, paths, strict=False):
        others = [each for each in paths if each != target]
        alone = tmp_path / path.name
        backgrounds = others if source == "dithers" else paths[2:]
        offsky.subtract_file(target, backgrounds, alone, profile="offsky", **how)
        without_date = [
            re.sub(rb"DATE    = '[^']*'", b"DATE", each.read_bytes(), count=1)
            for each in (path, alone)
        ]
        assert without_date[0] == without_date[1], path.name


def test_the_default_says_nothing_of_errors(write: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    subtracted(write(0), [write(1, without=ERRORS)], errors="none")
    assert "VAR_" not in caplog.text


# Known noise


def simulated(path: Path, truth: float, nints: int | None, rng: np.random.Generator) -> Path:
    """Write an exposure of a sky of `truth` DN/s with Poisson and read noise of known size."""
    shape = (250, 250) if nints is None else (nints, 250, 250)
    gain_s, read = 400.0, 0.05  # electrons for each DN/s, and DN/s
    sci = rng.poisson(truth * gain_s, shape) / gain_s + rng.normal(0, read, shape)
    poisson = np.full(shape, truth / gain_s, dtype=np.float32)
    rnoise = np.full(shape, read**2, dtype=np.float32)
    write_exposure(path, sci=sci.astype(np.float32), err=np.sqrt(poisson + rnoise), variances=True)
    with fits.open(path, memmap=False) as hdus:
        hdus["VAR_POISSON"].data, hdus["VAR_RNOISE"].data = poisson, rnoise
        hdus.writeto(path, overwrite=True)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 4, 10])
@pytest.mark.parametrize("nints", [None, 3])
def test_errors_are_those_of_known_noise(tmp_path: Path, n: int, nints: int | None) -> None:
    rng = np.random.default_rng([n, nints or 0])
    target = simulated(tmp_path / "target_rate.fits", 3.0, nints, rng)
    backgrounds = [simulated(tmp_path / f"sky{i}_rate.fits", 2.0, nints, rng) for i in range(n)]
    # What the average adds, relative to the target's own variance.
    share = (2.0 / 400 + 0.05**2) / (3.0 / 400 + 0.05**2) / n / (nints or 1)
    for how, expected in (
        ({"errors": "propagate", "reject": "none"}, 1.0),
        ({"profile": "offsky", "level": "none"}, 1.0),
        ({"reject": "none", "errors": "none"}, np.sqrt(1 + share)),
    ):
        product = subtracted(target, backgrounds, **how)
        pull = (product["SCI"].astype(np.float64) - 1.0) / product["ERR"]
        assert np.std(pull) == pytest.approx(expected, rel=0.01), how
        assert abs(np.mean(pull)) < 5 / np.sqrt(250 * 250)
