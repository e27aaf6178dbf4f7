"""The demo: a small observation with known truth, the real job, what to look at.

The exposures are simulated, written as files and then subtracted through the
package's public function, so that the demo also checks an installation.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offsky.combine.rule import largest_deviation

if TYPE_CHECKING:
    from offsky.simulation import Scene

__all__ = ["SIGMA", "DemoReport", "draw_before_after", "run_demo"]

SIGMA = 2.0
"""Clipping threshold of the demo.

No value among four is more than 2.31 standard deviations from their median, so
that the usual 3 could reject nothing. Lower thresholds find a few more outliers
and lose many more good samples: 1.5 rejects a third of them, 2 some 6 %.
"""

_UNIT = "DN/s"
_TARGET = "demo_target_rate.fits"
_BACKGROUND = "demo_background_{}_rate.fits"
_RESULT = "demo_target_bsub.fits"
_UNCLIPPED = "demo_target_unclipped_bsub.fits"
_PICTURE = "demo.png"
_FAR_OFF = 5.0


@dataclass(frozen=True)
class DemoReport:
    """What the demo wrote and measured; levels are in DN/s.

    Attributes
    ----------
    target, backgrounds, result, unclipped, picture : Path or tuple of Path
        The files; `picture` is None without matplotlib.
    level_before, level_after : float
        Median of the pixels without sources, in target and result.
    scatter, expected_scatter : float
        Of result minus truth: measured (robust), and what ERR tells.
    n_far_off_unclipped, n_far_off : int
        Pixels of the result more than 5 standard deviations from the truth,
        without and with clipping; cosmic rays of the target not counted.
    n_uncovered : int
        Pixels of the result without a value.
    rejected : float
        Share of the backgrounds' samples that clipping rejected, 0 to 1.
    """

    target: Path
    backgrounds: tuple[Path, ...]
    result: Path
    unclipped: Path
    picture: Path | None
    level_before: float
    level_after: float
    scatter: float
    expected_scatter: float
    n_far_off_unclipped: int
    n_far_off: int
    n_uncovered: int
    rejected: float


def run_demo(
    directory: Path,
    *,
    overwrite: bool = False,
    report: bool = False,
    echo: Callable[[str], None] = print,
) -> DemoReport:
    """Make exposures, subtract their background and say what to look at.

    Parameters
    ----------
    directory : Path
        Where the files go; made if it is not there.
    overwrite : bool
        Replace files of an earlier demo.
    report : bool
        Also write a page that shows the result.
    echo : callable
        Takes each line of text.

    Returns
    -------
    DemoReport
        The files and the numbers told.

    Raises
    ------
    OutputExistsError
        If a file is there already and `overwrite` is False.
    """
    from offsky import subtract_file
    from offsky.errors import OutputError, OutputExistsError, reason_of
    from offsky.simulation import simulate_exposures

    scene = simulate_exposures((512, 512), n_backgrounds=4)
    directory = Path(directory)
    target = directory / _TARGET
    backgrounds = tuple(
        directory / _BACKGROUND.format(i + 1) for i in range(len(scene.backgrounds))
    )
    result, unclipped = directory / _RESULT, directory / _UNCLIPPED
    picture = directory / _PICTURE if importlib.util.find_spec("matplotlib") else None

    for path in (target, *backgrounds, result, unclipped, *([picture] if picture else [])):
        if path.exists() and not overwrite:
            raise OutputExistsError(
                f"{path}: exists already; choose another directory or allow it with overwrite "
                "(--overwrite)"
            )
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{directory}: cannot be made ({reason_of(error)}); choose another directory"
        ) from error

    _write_scene(scene, target, backgrounds)
    outcome = subtract_file(
        target, backgrounds, result, sigma=SIGMA, overwrite=overwrite, report=report
    )
    subtract_file(target, backgrounds, unclipped, maxiters=0, overwrite=overwrite)

    rejected = sum(outcome.n_rejected) / outcome.n_samples
    told = _measure(scene, target, backgrounds, result, unclipped, picture, rejected)
    if picture:
        before, after = _read_sci(target), _read_sci(result)
        # The difference is what was subtracted, whatever was meant to be.
        draw_before_after(before, before - after, after, picture, _UNIT)
    for line in _told(told):
        echo(line)
    if outcome.report is not None:
        echo("Or open the report in a browser, and press b:")
        echo(f"  {outcome.report}")
    return told


def _write_scene(scene: Scene, target: Path, backgrounds: Sequence[Path]) -> None:
    """Write the exposures as MIRI's BRIGHTSKY subarray would give them."""
    from offsky.testing import write_exposure

    for number, (path, exposure) in enumerate(
        zip((target, *backgrounds), (scene.target, *scene.backgrounds), strict=True)
    ):
        dedicated = number > 0
        write_exposure(
            path,
            sci=exposure.sci,
            err=exposure.err,
            dq=exposure.dq,
            variances=True,
            metadata={
                "meta.subarray.name": "BRIGHTSKY",
                "meta.subarray.xstart": 457,
                "meta.subarray.ystart": 51,
                "meta.exposure.frame_time": 0.865,
                "meta.exposure.ngroups": 115,
                "meta.exposure.exposure_time": 99.5,
                "meta.exposure.effective_exposure_time": 99.5,
                "meta.observation.bkgdtarg": dedicated,
                "meta.observation.observation_number": "002" if dedicated else "001",
                "meta.observation.exposure_number": str(max(number, 1)),
                "meta.target.catalog_name": "DEMO BACKGROUND" if dedicated else "DEMO GALAXY",
            },
        )


def _read_sci(path: Path) -> npt.NDArray[np.float64]:
    """Read SCI of a file."""
    from astropy.io import fits

    with fits.open(path, memmap=False) as hdus:
        return np.asarray(hdus["SCI"].data, np.float64)


def _measure(
    scene: Scene,
    target: Path,
    backgrounds: tuple[Path, ...],
    result: Path,
    unclipped: Path,
    picture: Path | None,
    rejected: float,
) -> DemoReport:
    """Compare the files with the truth."""
    before, after, plain = _read_sci(target), _read_sci(result), _read_sci(unclipped)
    truth = scene.target.light
    # The target's ERR stays as it is; the background's noise comes on top.
    variance = np.stack([b.err for b in scene.backgrounds]).astype(np.float64) ** 2
    n_kept = np.isfinite(variance).sum(axis=0)
    background_variance = np.nansum(variance, axis=0) / np.maximum(n_kept, 1) ** 2
    expected = np.sqrt(scene.target.err.astype(np.float64) ** 2 + background_variance)

    # A background cannot take away the cosmic rays of the target itself.
    usable = np.isfinite(after) & ~scene.target.struck
    clean = usable & ~np.any([b.struck | (b.light > 0.05) for b in scene.backgrounds], axis=0)
    empty = clean & (truth < 0.05)

    def far_off(sci: npt.NDArray[np.float64]) -> int:
        return int(np.count_nonzero(usable & (np.abs(sci - truth) > _FAR_OFF * expected)))

    difference = (after - truth)[clean]
    median = float(np.median(difference))
    return DemoReport(
        target=target,
        backgrounds=backgrounds,
        result=result,
        unclipped=unclipped,
        picture=picture,
        level_before=float(np.median(before[empty])),
        level_after=float(np.median(after[empty])),
        # 1.4826 makes the median deviation the standard deviation of Gaussian noise.
        scatter=1.4826 * float(np.median(np.abs(difference - median))),
        expected_scatter=float(np.median(expected[clean])),
        n_far_off_unclipped=far_off(plain),
        n_far_off=far_off(after),
        n_uncovered=int(np.count_nonzero(~np.isfinite(after))),
        rejected=rejected,
    )


def _told(report: DemoReport) -> list[str]:
    """Return the lines that explain a report."""
    first, last = report.backgrounds[0].name, report.backgrounds[-1].name
    n = len(report.backgrounds)
    lines = [
        f"A simulated MIRI observation (F770W, 512 x 512) is in {report.target.parent}/",
        f"  {report.target.name:35} a faint galaxy under a bright sky",
        f"  {first:35} to {last}: empty fields nearby",
        f"  {report.result.name:35} target minus the average of the {n} backgrounds,",
        f"  {'':35} clipped at sigma = {SIGMA:g}",
        f"  {report.unclipped.name:35} the same without clipping (maxiters = 0)",
    ]
    if report.picture:
        lines.append(f"  {report.picture.name:35} target, background and result side by side")
    lines += [
        "",
        "What to look at:",
        f"  sky level in empty pixels     {report.level_before:.2f} {_UNIT} before, "
        f"{report.level_after:+.3f} {_UNIT} after",
        f"  scatter about the truth       {report.scatter:.3f} {_UNIT}; the exposures' ERR "
        f"lets expect {report.expected_scatter:.3f} {_UNIT}",
        f"  pixels {_FAR_OFF:g} sigma off the truth  {report.n_far_off_unclipped} without "
        f"clipping, {report.n_far_off} with it: the backgrounds'",
        f"  {'':29} stars and cosmic rays would leave dark holes",
        f"  samples rejected              {100 * report.rejected:.1f} % of the backgrounds'; "
        "most are good, see below",
        f"  pixels without a value        {report.n_uncovered}: bad in the target (NaN) and so in "
        "the result",
        "",
        f"Why sigma = {SIGMA:g} and not the usual 3: no value among {n} can be more than "
        f"{largest_deviation(n):.2f} standard",
        "deviations from their median, however far off it is; with 7 backgrounds or fewer",
        "3 rejects nothing. The price is a little noise: good values go too.",
        "The target's own cosmic rays stay: no background can tell them from sources.",
        "",
        "Open the two results side by side and blink them, for example:",
        f"  ds9 '{report.unclipped}[SCI]' '{report.result}[SCI]'",
    ]
    if report.picture is None:
        lines.append("With matplotlib installed the demo draws a picture as well.")
    return lines


def draw_before_after(
    target_sci: npt.NDArray[Any],
    average_sci: npt.NDArray[Any],
    result_sci: npt.NDArray[Any],
    path: Path,
    unit: str,
) -> None:
    """Draw target, average background and result side by side into a PNG file.

    Parameters
    ----------
    target_sci, average_sci, result_sci : ndarray
        (ny, nx); values that are not finite are drawn as masked.
    path : Path
        The picture, replaced if it is there.
    unit : str
        Unit of the values, for the colour bars.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    All panels have the same asinh stretch, each about its own median: a step
    in colour is the same step in brightness everywhere.
    """
    from matplotlib import colormaps
    from matplotlib.colors import AsinhNorm
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panels = [
        (title, np.ma.masked_invalid(np.asarray(sci, np.float64)))
        for title, sci in (
            ("Target", target_sci),
            ("Average background", average_sci),
            ("Target − average", result_sci),
        )
    ]
    levels = [float(np.median(image.compressed())) for _, image in panels]
    deepest, brightest = np.percentile(
        np.concatenate([(i - m).compressed() for (_, i), m in zip(panels, levels, strict=True)]),
        [0.3, 99.9],
    )
    noise = 1.4826 * float(np.median(np.abs(panels[-1][1].compressed() - levels[-1])))
    norm = AsinhNorm(linear_width=2.0 * noise, vmin=deepest, vmax=brightest)

    colours = colormaps["gray"].with_extremes(bad="#d55e00")

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06, wspace=0.02)
    figure = Figure(figsize=(12.0, 5.5), layout=layout)
    for axes, (title, image), level in zip(figure.subplots(1, 3), panels, levels, strict=True):
        drawn = axes.imshow(
            image - level, norm=norm, cmap=colours, origin="lower", interpolation="nearest"
        )
        axes.set_title(title, fontsize=17)
        axes.set_xticks([])
        axes.set_yticks([])
        bar = figure.colorbar(
            drawn, ax=axes, location="bottom", fraction=0.05, pad=0.02, aspect=28
        )
        bar.set_label(f"SCI ({unit})", fontsize=14)
        bar.ax.tick_params(labelsize=13)
        ticks = _round_values(level + deepest, level, level + brightest, noise)
        bar.set_ticks([tick - level for tick in ticks], labels=[f"{tick:g}" for tick in ticks])
        bar.minorticks_off()
    figure.supxlabel(
        "The same asinh stretch about each panel's median; pixels without a value in orange.",
        fontsize=14,
    )
    # Without the name of the program the same pixels give the same file.
    figure.savefig(path, dpi=150, bbox_inches="tight", metadata={"Software": None})


def _round_values(low: float, level: float, high: float, noise: float) -> list[float]:
    """Return round values about `level` for a stretched scale from `low` to `high`."""
    step = 10.0 ** np.round(np.log10(4.0 * noise)) if noise > 0 else 1.0
    middle = np.round(level / step)
    offsets = [-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100]
    # From whole numbers, for a product with the step would be 0.30000000000000004.
    values = [float(f"{(middle + offset) * step:.12g}") for offset in offsets]
    return [value for value in values if low <= value <= high]
