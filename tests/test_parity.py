"""jwst's own step and offsky's on the same inputs: where they agree, and each difference.

docs/parity.md has a row for each difference; the numbers of the traps are those of its rows.
"""

import functools
import gc
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("jwst", reason="the JWST pipeline is not installed: offsky[jwst]")

from jwst.background import BackgroundStep as JwstStep
from stdatamodels.jwst import datamodels

from offsky.errors import ExposureMismatchError
from offsky.options import PROFILES
from offsky.step import BackgroundStep as OffskyStep
from offsky.testing import assert_same_bits, encoded_pixels, write_exposure

# jwst's arithmetic warns of what it meets: NaN, overflow, empty means.
pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning:jwst"),
    pytest.mark.filterwarnings("ignore:.*get_cache_lock:DeprecationWarning"),
]

NY, NX = 11, 13
DO_NOT_USE, JUMP_DET, HOT = 1, 4, 2048


class Run(NamedTuple):
    """What one step gave."""

    result: Any
    background: Any  # None where none was saved


Runner = Callable[..., Run]


@pytest.fixture(autouse=True)
def no_crds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep jwst's step from ending the process."""
    monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Runner]:
    """Run a step; its models are closed after the test."""
    with ExitStack() as opened:

        def run(
            step: Any, target: Any, backgrounds: Any = None, save: bool = True, **parameters: Any
        ) -> Run:
            folder = tmp_path / f"{step.__module__.partition('.')[0]}_saved"
            arguments = (target,) if backgrounds is None else (target, backgrounds)
            result = step.call(
                *arguments,
                configure_log=False,
                save_combined_background=save,
                output_dir=str(folder),
                **parameters,
            )
            opened.callback(result.close)
            saved = sorted(folder.glob("*_combinedbackground.fits"))
            background = opened.enter_context(datamodels.open(saved[0])) if saved else None
            for path in saved:
                path.unlink()
            return Run(result, background)

        yield run


@pytest.fixture
def both(run: Runner) -> Callable[..., tuple[Run, Run]]:
    """Run jwst's step, then offsky's."""

    def both(target: Any, backgrounds: Any = None, **parameters: Any) -> tuple[Run, Run]:
        theirs = run(JwstStep, target, backgrounds, **parameters)
        return theirs, run(OffskyStep, target, backgrounds, **parameters)

    return both


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Write an exposure; equal ones are written once, since no step changes its inputs."""
    folder, numbers = tmp_path_factory.mktemp("exposures"), iter(range(1, 1000))

    @functools.cache
    def written(
        copy: int, sci: bytes, shape: Any, err: Any, dq: Any, model: Any, metadata: Any
    ) -> str:
        number = next(numbers)
        suffix = "rate" if len(shape) == 2 else "rateints"
        path = write_exposure(
            folder / f"exposure{number}_{suffix}.fits",
            sci=np.frombuffer(sci, dtype=np.float32).reshape(shape),
            err=err if not isinstance(err, bytes) else np.frombuffer(err, "f4").reshape(shape),
            dq=dq if not isinstance(dq, bytes) else np.frombuffer(dq, "u4").reshape(shape),
            model=model,
            metadata={"meta.observation.exposure_number": str(number), **dict(metadata)},
        )
        return str(path)

    return written


@pytest.fixture
def write(written: Callable[..., str]) -> Callable[..., str]:
    """Write an exposure of a value, pixels, or a value for each integration."""
    copies: Counter[Any] = Counter()

    def write(
        values: Any, err: Any = None, dq: Any = None, model: str | None = None, **metadata: Any
    ) -> str:
        sci = np.asarray(values, dtype=np.float32)
        if sci.ndim == 0:
            sci = np.full((NY, NX), sci)
        elif sci.ndim == 1:
            sci = np.full((len(sci), NY, NX), sci[:, np.newaxis, np.newaxis])
        if np.ndim(err):
            err = np.broadcast_to(err, sci.shape).astype(np.float32).tobytes()
        if np.ndim(dq):
            dq = np.broadcast_to(dq, sci.shape).astype(np.uint32).tobytes()
        known = tuple(
            (f"meta.{key.replace('__', '.')}", metadata[key]) for key in sorted(metadata)
        )
        exposure = (sci.tobytes(), sci.shape, err, dq, model, known)
        copies[exposure] += 1
        return written(copies[exposure], *exposure)

    return write


@pytest.fixture(autouse=True, scope="module")
def quick_collection() -> Iterator[None]:
    """Leave what is imported out of garbage collection: each run of a step begins with one."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def noise(seed: int, nints: int | None = None, *, shape: tuple[int, int] = (NY, NX)) -> Any:
    """Make pixels that tell their place, with noise and outliers far beyond three sigma."""
    rng = np.random.default_rng(seed)
    full = shape if nints is None else (nints, *shape)
    pixels = encoded_pixels(0, None, *shape) + rng.normal(0.0, 1.0, full)
    pixels[rng.random(full) < 0.04] += 1000.0
    return pixels.astype(np.float32)


def assert_like(ours: Any, theirs: Any, level: Any, bits: int = 1) -> None:
    """Fail unless SCI agrees to float32's rounding, ERR and DQ in every bit.

    The two sum in another order, so that the averages may differ by their last bit;
    after the subtraction that is a bit of the larger operand. jwst averages the
    integrations of a cube in float32, which costs some more.
    """
    assert type(ours) is type(theirs)
    assert ours.meta.cal_step.bkg_subtract == theirs.meta.cal_step.bkg_subtract
    bit = np.spacing(np.maximum(np.abs(theirs.data), np.abs(level)).astype(np.float32))
    np.testing.assert_array_equal(np.isnan(ours.data), np.isnan(theirs.data))
    differ = np.abs(ours.data - theirs.data) > bits * bit
    assert not differ.any(), f"{np.count_nonzero(differ)} pixels differ"
    assert ours.data.dtype.newbyteorder("=") == theirs.data.dtype.newbyteorder("=")
    assert_same_bits(ours.err, theirs.err)
    assert_same_bits(ours.dq, theirs.dq)


# What the two have in common


@pytest.mark.parametrize("model", ["ImageModel", "IFUImageModel", "SlitModel"])
def test_images_of_each_kind_are_subtracted_alike(both: Any, write: Any, model: str) -> None:
    rng = np.random.default_rng(1)
    paths = [
        write(
            noise(i),
            err=rng.uniform(0.5, 2.0, (NY, NX)).astype(np.float32),
            dq=2 ** rng.integers(0, 32, (NY, NX)).astype(np.uint32),
            model=model,
        )
        for i in range(12)
    ]
    theirs, ours = both(paths[0], paths[1:])

    assert_like(ours.result, theirs.result, theirs.background.data)
    np.testing.assert_array_max_ulp(ours.background.data, theirs.background.data, 1)
    np.testing.assert_array_max_ulp(ours.background.err, theirs.background.err, 1)
    assert_same_bits(ours.background.dq, theirs.background.dq)
    # The clip did act.
    assert header(ours.result)["OFFNREJ"] > 20


@pytest.mark.parametrize("parameters", [{}, {"sigma": 1.2, "maxiters": 1}])
def test_cubes_are_subtracted_alike(both: Any, write: Any, parameters: Any) -> None:
    rng = np.random.default_rng(2)
    numbers = (4, 12, 3, 12, 5)  # of integrations
    paths = [
        write(noise(i, nints), dq=2 ** rng.integers(0, 32, (nints, NY, NX)).astype(np.uint32))
        for i, nints in enumerate(numbers)
    ]
    theirs, ours = both(paths[0], paths[1:], **parameters)

    assert_like(ours.result, theirs.result, theirs.background.data, bits=4)
    np.testing.assert_array_max_ulp(ours.background.data, theirs.background.data, 4)
    assert_same_bits(ours.background.dq, theirs.background.dq)


def test_sigma_and_maxiters_mean_the_same(both: Any, write: Any) -> None:
    paths = [write(noise(i)) for i in range(7)]
    for maxiters in (0, 1, None):  # 0 is no limit
        theirs, ours = both(paths[0], paths[1:], sigma=1.3, maxiters=maxiters)
        np.testing.assert_array_max_ulp(ours.background.data, theirs.background.data, 1)


def test_bounds_of_the_clip_are_inclusive_in_both(both: Any, write: Any) -> None:
    # Median 0, standard deviation 1, values at 1 sigma from it: all kept.
    paths = [write(value) for value in (0.0, -1.0, -1.0, 1.0, 1.0)]
    theirs, ours = both(paths[0], paths[1:], sigma=1.0)

    assert_same_bits(ours.background.data, theirs.background.data)
    np.testing.assert_array_equal(ours.background.err, np.float32(0.05))


def test_missing_samples_are_left_out_alike(both: Any, write: Any) -> None:
    def holed(seed: int) -> Any:
        pixels = noise(seed)
        pixels[np.random.default_rng([seed, 1]).random(pixels.shape) < 0.2] = np.nan
        return pixels

    # ERR is missing where SCI is, and no pixel misses in all.
    backgrounds = [holed(i) for i in range(1, 5)] + [noise(9)]
    paths = [write(each, err=np.where(np.isnan(each), np.nan, 0.1)) for each in backgrounds]
    theirs, ours = both(write(noise(0)), paths)

    assert_like(ours.result, theirs.result, theirs.background.data)
    np.testing.assert_array_max_ulp(ours.background.data, theirs.background.data, 1)
    np.testing.assert_array_max_ulp(ours.background.err, theirs.background.err, 1)


def test_err_and_variances_of_the_target_stay(both: Any, tmp_path: Path, write: Any) -> None:
    target = str(
        write_exposure(tmp_path / "target_rate.fits", sci=noise(0), err=0.3, variances=True)
    )
    theirs, ours = both(target, [write(noise(1))])

    with datamodels.open(target) as before:
        for name in ("err", "var_poisson", "var_rnoise"):
            assert_same_bits(getattr(ours.result, name), getattr(before, name))
            assert_same_bits(getattr(theirs.result, name), getattr(before, name))


@pytest.mark.slow
@pytest.mark.parametrize("nints", [None, 3])
@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (2, 1), (4, 5)])
def test_a_subarray_is_cut_out_of_larger_backgrounds(
    both: Any, write: Any, nints: int | None, dy: int, dx: int
) -> None:
    window = {"subarray__xstart": 9 + dx, "subarray__ystart": 4 + dy}
    target = write(np.zeros((NY, NX) if nints is None else (nints, NY, NX)), **window)
    larger = (NY + 6, NX + 7)
    backgrounds = [
        write(encoded_pixels(i, nints, *larger), subarray__xstart=9, subarray__ystart=4)
        for i in range(3)
    ]
    theirs, ours = both(target, backgrounds)

    expected = encoded_pixels(1, nints, *larger)[..., dy : dy + NY, dx : dx + NX]
    if nints is not None:
        expected = expected[1]
    np.testing.assert_array_equal(theirs.background.data, expected)
    np.testing.assert_array_equal(ours.background.data, expected)
    assert_like(ours.result, theirs.result, expected)


@pytest.mark.parametrize("name", ["gwa_xtilt", "gwa_ytilt"])
@pytest.mark.parametrize(("step", "status"), [(9e-9, "COMPLETE"), (2e-8, "SKIPPED")])
def test_tilts_of_the_grating_wheel_must_agree(
    both: Any, write: Any, name: str, step: float, status: str
) -> None:
    tilt = {"gwa_xtilt": 0.35, "gwa_ytilt": 0.13}[name]
    target = write(10.0, model="IFUImageModel")
    backgrounds = [
        write(1.0, model="IFUImageModel"),
        write(1.0, model="IFUImageModel", **{f"instrument__{name}": tilt + step}),
    ]
    theirs, ours = both(target, backgrounds)

    assert ours.result.meta.cal_step.bkg_subtract == status
    assert_like(ours.result, theirs.result, 1.0)
    assert (ours.background is None) == (theirs.background is None) == (status == "SKIPPED")


@pytest.mark.parametrize("backgrounds", [None, [], ",", [""]])
def test_without_backgrounds_the_target_is_copied(both: Any, write: Any, backgrounds: Any) -> None:
    path = write(noise(0))
    with datamodels.open(path) as target:
        theirs, ours = both(target, backgrounds)
        assert ours.result is not target
        assert target.meta.cal_step.bkg_subtract is None
        assert_same_bits(ours.result.data, target.data)
    assert ours.result.meta.cal_step.bkg_subtract == "SKIPPED"
    assert_like(ours.result, theirs.result, 0.0)
    assert ours.background is theirs.background is None


def test_open_models_are_left_as_they_are(both: Any, write: Any) -> None:
    paths = [write(noise(i)) for i in range(3)]
    with ExitStack() as stack:
        models = [stack.enter_context(datamodels.open(path)) for path in paths]
        before = [(model.data.copy(), model.dq.copy(), model.to_flat_dict()) for model in models]
        theirs, ours = both(models[0], models[1:])
        for model, (sci, dq, metadata) in zip(models, before, strict=True):
            assert_same_bits(model.data, sci)
            assert_same_bits(model.dq, dq)
            assert str(model.to_flat_dict()) == str(metadata)
        assert ours.result is not models[0]
    assert_like(ours.result, theirs.result, theirs.background.data)


def association(products: list[list[tuple[str, str]]]) -> str:
    """Write a level-2 association beside its members: their kinds and files, by product."""
    contents = {
        "asn_type": "image2",
        "asn_rule": "DMSLevel2bBase",
        "asn_id": "a3001",
        "asn_pool": "none",
        "program": "01234",
        "products": [
            {
                "name": f"product{i}",
                "members": [{"expname": Path(f).name, "exptype": kind} for kind, f in members],
            }
            for i, members in enumerate(products)
        ],
    }
    path = Path(products[0][0][1]).with_name("observation_asn.json")
    path.write_text(json.dumps(contents))
    return str(path)


def test_members_win_over_the_list_and_the_list_over_the_parameter(both: Any, write: Any) -> None:
    target, one, two, four = write(10.0), write(1.0), write(2.0), write(4.0)
    whole = association([[("science", target), ("Background", one)]])
    cases = [
        ((whole, [two]), {"bkg_list": [four]}, 9),
        ((target, [two]), {"bkg_list": [four]}, 8),
        ((target, f"{two},,{four},"), {}, 7),
        ((target, []), {"bkg_list": [four]}, 10),
        ((target,), {"bkg_list": four}, 6),
    ]
    for arguments, parameters, left in cases:
        theirs, ours = both(*arguments, save=False, **parameters)
        np.testing.assert_array_equal(ours.result.data, left)
        assert_like(ours.result, theirs.result, 10.0)


def test_of_several_products_both_take_the_first(
    both: Any, write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, one, two = write(10.0), write(20.0), write(1.0), write(2.0)
    path = association(
        [
            [("science", first), ("science", second), ("background", one)],
            [("science", second), ("background", two)],
        ],
    )
    theirs, ours = both(path)

    np.testing.assert_array_equal(ours.result.data, 9)
    assert_like(ours.result, theirs.result, 1.0)
    assert caplog.text.count("Using only the first one") == 2
    assert caplog.text.count("Wrong number of science exposures") == 2


@pytest.mark.parametrize("suffix", ["bsub", None])
def test_products_have_the_same_names(tmp_path: Path, write: Any, suffix: str | None) -> None:
    target, one = write(10.0), write(1.0)
    names = []
    for step in (JwstStep, OffskyStep):
        folder = tmp_path / f"{step.__module__}"
        result = step.call(
            target,
            [one],
            configure_log=False,
            save_results=True,
            save_combined_background=True,
            output_dir=str(folder),
            suffix=suffix,
        )
        result.close()
        names.append(sorted(path.name for path in folder.iterdir()))
    root = Path(target).stem.removesuffix("_rate")
    assert names[1] == names[0]
    assert names[1] == sorted(
        [f"{root}_{suffix or 'backgroundstep'}.fits", f"{root}_combinedbackground.fits"]
    )


def test_parameters_are_the_same_and_the_options_besides() -> None:
    assert OffskyStep.class_alias == JwstStep.class_alias == "bkg_subtract"
    ours, theirs = OffskyStep().get_pars(), JwstStep().get_pars()
    # The profile's, which is jwst's.
    assert (ours.pop("sigma"), theirs.pop("sigma")) == (None, PROFILES["jwst"].sigma)
    assert {name: ours[name] for name in theirs} == theirs
    added = {name: value for name, value in ours.items() if name not in theirs}
    assert added.pop("profile") == "jwst"
    assert set(added.values()) == {None}
    assert OffskyStep.reference_file_types == JwstStep.reference_file_types


NOD = "nirspec_nod/jw01345062001_03101_0000{}_nrs2_phot.138.1345_933.fits"
STAR = "miri_4qpm/jw01194015001_04101_0000{}_mirimage_calints.fits"
SKY = (
    "miri_4qpm/jw01194019001_02101_00002_mirimage_calints.fits",
    "miri_4qpm/jw01277022001_02101_00001_mirimage_calints.fits",
    "miri_4qpm/jw01277022001_02101_00002_mirimage_calints.fits",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "backgrounds"),
    [
        (NOD.format(1), [NOD.format(2), NOD.format(3)]),
        (STAR.format(1), SKY),
        (STAR.format(1), [STAR.format(i) for i in (2, 3, 4, 5)]),
        (SKY[1], SKY[2:]),
    ],
    ids=["nod", "star", "dithers", "null"],
)
def test_real_exposures_are_subtracted_alike(
    both: Any, shared_data: Path, target: str, backgrounds: list[str]
) -> None:
    names = [str(shared_data / name) for name in backgrounds]
    theirs, ours = both(str(shared_data / target), names, sigma=1.2)

    assert ours.result.meta.cal_step.bkg_subtract == "COMPLETE"
    level = np.nan_to_num(ours.background.data)
    assert_like(ours.result, theirs.result, level)
    covered = np.isfinite(ours.background.data)
    np.testing.assert_array_max_ulp(level, np.where(covered, theirs.background.data, 0), 1)
    assert_same_bits(ours.background.dq, theirs.background.dq)


# The traps: what jwst's step gives today, and what offsky gives


def test_trap_1_a_background_lies_where_its_keywords_say(both: Any, write: Any) -> None:
    target = write(np.zeros((NY, NX)))
    pixels = encoded_pixels(1, None, NY, NX)
    theirs, ours = both(target, [write(pixels, subarray__xstart=6, subarray__ystart=4)])

    common = pixels[: NY - 3, : NX - 5]
    # jwst: at the corner of the target, whatever the keywords say.
    np.testing.assert_array_equal(theirs.result.data[: NY - 3, : NX - 5], -common)
    np.testing.assert_array_equal(ours.result.data[3:, 5:], -common)
    assert not ours.result.data[:3].any()
    assert not ours.result.data[:, :5].any()


def test_trap_2_what_no_background_covers_is_told(
    both: Any, write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.ones((NY, NX))
    pixels[2, 3] = np.nan
    theirs, ours = both(write(10.0), [write(pixels), write(pixels)])

    # Both leave the target there. jwst: a background of 0 +- 0, without a word.
    for each in (theirs, ours):
        assert each.result.data[2, 3] == 10
        assert each.result.dq[2, 3] == 0
        assert each.result.meta.cal_step.bkg_subtract == "COMPLETE"
    assert theirs.background.data[2, 3] == theirs.background.err[2, 3] == 0
    assert np.isnan(ours.background.data[2, 3])
    assert np.isnan(ours.background.err[2, 3])
    assert "1 pixel has no background sample" in caplog.text
    assert header(ours.result)["OFFNUNCV"] == 1


def test_trap_2_without_any_overlap_the_step_is_skipped(both: Any, write: Any) -> None:
    theirs, ours = both(write(10.0), [write(1.0, subarray__xstart=500)])

    for each in (theirs, ours):
        np.testing.assert_array_equal(each.result.data, 10)
    assert theirs.result.meta.cal_step.bkg_subtract == "COMPLETE"
    assert ours.result.meta.cal_step.bkg_subtract == "SKIPPED"


def test_trap_3_an_exposure_without_a_sample_is_left_out(both: Any, write: Any) -> None:
    lost = np.full((2, NY, NX), 10.0)
    lost[:, 2, 3] = np.nan
    theirs, ours = both(write([100.0, 100.0]), [write([10.0, 10.0]), write(lost)])

    # jwst: as if the exposure's average were 0 there.
    assert theirs.background.data[2, 3] == 5
    assert ours.background.data[2, 3] == 10
    np.testing.assert_array_equal(ours.result.data, 90)


def test_trap_4_the_error_of_a_cube_is_that_of_its_mean(both: Any, write: Any) -> None:
    sci = [10.0] * 20
    theirs, ours = both(write([100.0]), [write(sci, err=1.0)])

    np.testing.assert_allclose(theirs.background.err, 1.0)
    np.testing.assert_allclose(ours.background.err, 1 / np.sqrt(20), rtol=1e-6)


def test_trap_4_the_error_of_a_cube_follows_what_is_kept_of_sci(both: Any, write: Any) -> None:
    sci = [10.0] * 19 + [1000.0]
    err = np.array([1.0] * 19 + [7.0])[:, np.newaxis, np.newaxis]
    theirs, ours = both(write([100.0]), [write(sci, err=err)])

    np.testing.assert_array_equal(ours.background.data, theirs.background.data)
    np.testing.assert_allclose(theirs.background.err, 1.0)
    np.testing.assert_allclose(ours.background.err, 1 / np.sqrt(19), rtol=1e-6)


def test_trap_5_one_unknown_error_does_not_spoil_the_others(
    both: Any, write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    err = np.full((NY, NX), 0.5, dtype=np.float32)
    unknown = err.copy()
    unknown[2, 3] = np.nan
    theirs, ours = both(write(10.0), [write(1.0, err=err), write(1.0, err=unknown)])

    assert np.isnan(theirs.background.err[2, 3])
    # The mean variance of the others stands in.
    np.testing.assert_allclose(ours.background.err, 0.5 / np.sqrt(2), rtol=1e-6)
    assert "1 pixel has samples without a finite ERR" in caplog.text


def test_trap_6_flags_and_flagged_samples_count_as_in_jwst(both: Any, write: Any) -> None:
    rejected = np.full((NY, NX), 1.0)
    rejected[2, 3] = 1000.0
    flags = np.zeros((NY, NX), dtype=np.uint32)
    flags[2, 3] = HOT
    others = [write(1.0 + 0.01 * i, dq=JUMP_DET) for i in range(11)]
    theirs, ours = both(write(10.0), [write(rejected, dq=flags), *others])
    # In both: flags of all samples, those rejected too.
    assert ours.background.data[2, 3] < 2
    assert ours.result.dq[2, 3] == theirs.result.dq[2, 3] == HOT | JUMP_DET

    bad = np.full((NY, NX), 1.0)
    bad[2, 3] = 99.0
    theirs, ours = both(
        write(10.0), [write(bad, dq=flags // HOT * DO_NOT_USE), *(write(1.0) for _ in range(3))]
    )
    # In both: a finite sample counts, DO_NOT_USE or not.
    assert theirs.background.data[2, 3] == ours.background.data[2, 3] == 25.5


def test_trap_7_a_clip_that_cannot_reject_says_so(
    both: Any, write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, ours = both(write(10.0), [write(value) for value in (1.0, 1.0, 1.0, 1.0, 1000.0)])

    assert_same_bits(ours.background.data, theirs.background.data)
    assert ours.background.data[0, 0] > 200
    assert caplog.text.count("rejects nothing") == 1


def test_trap_8_exposures_have_one_weight_as_in_jwst(both: Any, write: Any) -> None:
    theirs, ours = both(write([10.0]), [write([1.0] * 9), write([4.0])])

    np.testing.assert_array_equal(theirs.background.data, 2.5)
    np.testing.assert_array_equal(ours.background.data, 2.5)


def test_trap_9_images_and_cubes_go_together(run: Runner, write: Any) -> None:
    cube, image = write([10.0, 20.0]), write(10.0)
    for target, background in ((cube, write(1.0)), (image, write([1.0, 1.0]))):
        with pytest.raises((IndexError, ValueError)):
            run(JwstStep, target, [background], save=False)
        ours = run(OffskyStep, target, [background], save=False)
        assert ours.result.meta.cal_step.bkg_subtract == "COMPLETE"
        with datamodels.open(target) as before:
            assert type(ours.result) is type(before)
            np.testing.assert_array_equal(ours.result.data, before.data - 1)


def test_trap_10_another_configuration_is_used_with_a_warning(
    both: Any, write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    other = write(1.0, instrument__filter="F1000W", instrument__detector="MIRIFULONG")
    theirs, ours = both(write(10.0), [other])

    assert_like(ours.result, theirs.result, 1.0)
    lines = [each for each in caplog.records if each.name.startswith("offsky")]
    assert any("FILTER 'F1000W'" in line.getMessage() for line in lines)
    assert any("DETECTOR 'MIRIFULONG'" in line.getMessage() for line in lines)


def test_trap_10_another_unit_is_an_error(run: Runner, write: Any) -> None:
    target, background = write(10.0), write(1.0, bunit_data="MJy/sr")
    assert run(JwstStep, target, [background]).result.data[0, 0] == 9
    with pytest.raises(ExposureMismatchError, match="unit 'MJy/sr' differs"):
        run(OffskyStep, target, [background])


def test_trap_10_the_target_and_a_second_subtraction_are_warned_of(
    both: Any, write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    target, one = write(10.0), write(1.0)
    theirs, ours = both(target, [target], save=False)
    assert_like(ours.result, theirs.result, 10.0)
    assert not ours.result.data.any()
    assert "is the target's own exposure" in caplog.text

    theirs, ours = both(target, [one, one], save=False)
    assert_like(ours.result, theirs.result, 1.0)
    assert "is named twice" in caplog.text

    again = both(ours.result, [one], save=False)
    np.testing.assert_array_equal(again[1].result.data, 8)
    assert_like(again[1].result, again[0].result, 1.0)
    assert "has been subtracted already" in caplog.text


def test_trap_11_unknown_tilts_are_equal(run: Runner, write: Any) -> None:
    unknown = {
        "model": "IFUImageModel",
        "instrument__gwa_xtilt": None,
        "instrument__gwa_ytilt": None,
    }
    target, background = write(10.0, **unknown), write(1.0, **unknown)
    with pytest.raises(TypeError):
        run(JwstStep, target, [background])
    np.testing.assert_array_equal(run(OffskyStep, target, [background]).result.data, 9)

    known = write(1.0, model="IFUImageModel")
    ours = run(OffskyStep, target, [known])
    assert ours.result.meta.cal_step.bkg_subtract == "SKIPPED"


def test_trap_11_outside_the_pipeline_only_the_one_that_differs_is_dropped(
    both: Any, write: Any
) -> None:
    import offsky

    target = write(10.0, model="IFUImageModel")
    good = [write(1.0, model="IFUImageModel") for _ in range(3)]
    other = write(1.0, model="IFUImageModel", instrument__gwa_xtilt=0.35 + 2e-8)
    for each in both(target, [*good, other]):
        assert each.result.meta.cal_step.bkg_subtract == "SKIPPED"
    with offsky.subtract(target, [*good, other]) as result:
        assert result.meta.cal_step.bkg_subtract == "COMPLETE"
        np.testing.assert_array_equal(result.data, 9)


def test_trap_12_the_combined_background_is_a_background_again(
    run: Runner, write: Any, tmp_path: Path
) -> None:
    paths = [write(noise(i)) for i in range(4)]
    for step in (JwstStep, OffskyStep):
        background = run(step, paths[0], paths[1:]).background
        path = str(tmp_path / "combined.fits")
        background.save(path)
        if step is JwstStep:
            with pytest.raises((AttributeError, ValueError)):
                run(step, paths[0], [path])
            continue
        ours = run(OffskyStep, paths[0], [path])
        assert_same_bits(ours.background.data, background.data)
        assert background.meta.instrument.filter == "F770W"
        assert background.meta.subarray.instance == ours.result.meta.subarray.instance


def test_trap_13_a_model_without_window_keywords_stays_so(run: Runner) -> None:
    def full_frame(value: float) -> Any:
        model = datamodels.ImageModel(np.full((1024, 1032), value, dtype=np.float32))
        model.dq, model.err = model.get_default("dq"), model.get_default("err")
        model.meta.instrument.name = "MIRI"
        model.meta.exposure.type = "MIR_IMAGE"
        return model

    for step, left in ((OffskyStep, None), (JwstStep, 1)):
        with full_frame(10.0) as target, full_frame(1.0) as background:
            assert run(step, target, [background]).result.data[0, 0] == 9
            assert background.meta.subarray.xstart == left


@pytest.mark.slow
def test_trap_14_exposures_are_not_all_in_memory(run: Runner, write: Any) -> None:
    shape = (1024, 1032)
    paths = [write(np.full(shape, float(i))) for i in range(9)]
    peaks = {}
    for step in (JwstStep, OffskyStep):
        tracemalloc.start()
        try:
            run(step, paths[0], paths[1:], save=False)
            peaks[step] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    stack_bytes = 8 * shape[0] * shape[1] * len(paths[1:])
    # jwst: SCI and ERR in float64, and the clip's own copies.
    assert peaks[JwstStep] > 3 * stack_bytes
    assert peaks[OffskyStep] < 1.2 * stack_bytes, f"{peaks[OffskyStep] / stack_bytes} stacks"


# Where else the two differ


def test_exposures_of_one_shape_need_no_window_keywords(run: Runner, write: Any) -> None:
    names = ("xstart", "ystart", "xsize", "ysize")
    unknown = {f"subarray__{name}": None for name in names}
    target, background = write(10.0, **unknown), write(1.0, **unknown)
    with pytest.raises(ValueError, match="xstart or ystart"):
        run(JwstStep, target, [background])
    np.testing.assert_array_equal(run(OffskyStep, target, [background]).result.data, 9)


def test_windows_that_contradict_their_arrays_must_do_so_alike(
    both: Any, run: Runner, write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cropped = {"subarray__xsize": NX + 5, "subarray__ysize": NY + 1}
    target = write(10.0, **cropped)
    theirs, ours = both(target, [write(1.0, **cropped)])
    assert_like(ours.result, theirs.result, 1.0)
    assert caplog.text.count("taken as the same window") == 1

    run(JwstStep, target, [write(1.0)])
    with pytest.raises(ExposureMismatchError, match="SUBSIZE2 and SUBSIZE1"):
        run(OffskyStep, target, [write(1.0)])


def test_a_product_tells_how_it_was_made(both: Any, write: Any) -> None:
    one, two = write(1.0), write(2.0)
    theirs, ours = both(write(10.0), [one, two])

    assert not any(keyword.startswith("OFF") for keyword in header(theirs.result))
    assert header(ours.result)["OFFNBKG"] == 2
    assert header(ours.result)["OFFLEVEL"] == 1.5


def test_a_plain_list_may_hold_paths_and_models(run: Runner, write: Any) -> None:
    target, one, two = write(10.0), write(1.0), write(2.0)
    # jwst: a path of the positional list is refused where a str is not.
    assert run(OffskyStep, target, Path(one), save=False).result.data.max() == 9
    assert run(OffskyStep, target, f"{one}, {two}", save=False).result.data.max() == 8.5
    with datamodels.open(two) as model:
        assert run(OffskyStep, target, model, save=False).result.data.max() == 8
        assert run(OffskyStep, target, (Path(one), model), save=False).result.data.max() == 8.5


def test_an_association_in_memory_is_taken_too(
    run: Runner, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jwst.associations.load_as_asn import LoadAsLevel2Asn

    path = association([[("science", write(10.0)), ("background", write(1.0))]])
    monkeypatch.chdir(Path(path).parent)
    for whole in (json.loads(Path(path).read_text()), LoadAsLevel2Asn.load(path)):
        with pytest.raises((AttributeError, TypeError)):
            run(JwstStep, whole)
        ours = run(OffskyStep, whole)
        np.testing.assert_array_equal(ours.result.data, 9)
        assert ours.background is not None


def header(model: Any) -> dict[str, Any]:
    """Return the keywords that no schema knows."""
    extra = model.instance.get("extra_fits", {}).get("PRIMARY", {}).get("header", [])
    return {card[0]: card[1] for card in extra}
