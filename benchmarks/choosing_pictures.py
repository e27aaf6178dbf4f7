"""Draw the pictures of docs/choosing.md, and put its tables in, from rejection.py's results."""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from rejection import STRUCTURE
from simulations import binned, drifting_observation

import offsky

HERE = Path(__file__).parent
# Okabe and Ito's colours, told apart by all; and a marker each.
STYLES: dict[str, tuple[str, str, str]] = {
    "error 3.5": ("#0072b2", "o", "error, 3.5 ERR (recommended)"),
    "sigma 3": ("#d55e00", "s", "sigma, 3 (the pipeline's default)"),
    "sigma 2": ("#e69f00", "v", "sigma, 2"),
    "mad 3": ("#009e73", "D", "mad, 3"),
    "minmax 1": ("#cc79a7", "^", "minmax, 1"),
}


def rejection_picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw what is found and what it costs, against the number of backgrounds."""
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    found, noise = figure.subplots(1, 2)
    for method, (colour, marker, label) in STYLES.items():
        chosen = [
            row
            for row in rows
            if row["method"] == method and row["amplitude"] == 10 and row["inflated"] == 1
        ]
        n = [row["n"] for row in chosen]
        style = {"color": colour, "marker": marker, "label": label, "lw": 2, "ms": 7}
        found.plot(n, [100 * row["found"] for row in chosen], **style)
        noise.plot(n, [100 * (row["noise"] - 1) for row in chosen], **style)
    found.set_title("10 sigma outliers found", fontsize=16)
    found.set_ylabel("% of them", fontsize=14)
    noise.set_title("Noise added where there are none", fontsize=16)
    noise.set_ylabel("% of the noise of a plain mean", fontsize=14)
    for axes in (found, noise):
        axes.set_xlabel("backgrounds averaged", fontsize=14)
        axes.set_xticks(range(2, 13))
        axes.tick_params(labelsize=13)
        axes.grid(alpha=0.3)
    figure.legend(
        *found.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=13
    )
    _save(figure, path)


def errors_picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the scatter of result minus truth in units of ERR."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for errors, colour, marker, label in (
        ("none", "#d55e00", "s", "errors none: the target's ERR alone"),
        ("propagate", "#0072b2", "o", "errors propagate"),
    ):
        chosen = [row for row in rows if row["kind"] == "image" and row["errors"] == errors]
        n, scatter = ([row[key] for row in chosen] for key in ("n", "scatter"))
        axes.plot(n, scatter, color=colour, marker=marker, label=label, lw=2, ms=8)
    axes.axhline(1.0, color="black", lw=1, ls="--")
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 4, 10], labels=["1", "2", "4", "10"])
    axes.minorticks_off()
    axes.set_xlabel("backgrounds averaged", fontsize=14)
    axes.set_ylabel("scatter of (result − truth) / ERR", fontsize=14)
    axes.tick_params(labelsize=13)
    axes.legend(fontsize=13, frameon=False)
    axes.grid(alpha=0.3)
    _save(figure, path)


def structure_picture(path: Path) -> None:
    """Draw what is left of dithered stars and a drifting sky, for three sets of options."""
    from astropy.io import fits

    shown = {
        "profile jwst": STRUCTURE["none (profile jwst)"],
        "profile offsky": STRUCTURE["profile offsky"],
        "profile offsky, mask_sources": STRUCTURE["profile offsky"].changed(mask_sources=True),
    }
    figure = Figure(figsize=(13, 6), layout="constrained")
    with tempfile.TemporaryDirectory() as name:
        seen = drifting_observation(Path(name), 4, shape=(320, 320), step=0.005, seed=21)
        panels = figure.subplots(1, len(shown))
        for axes, (label, options) in zip(panels, shown.items(), strict=True):
            result = Path(name) / "result_bsub.fits"
            offsky.subtract_file(
                seen.target, seen.backgrounds, result, options=options, overwrite=True
            )
            left = (fits.getdata(result, "SCI") - seen.truth) / seen.noise
            left[~seen.usable] = np.nan
            drawn = axes.imshow(
                binned(left, 2) * 2, vmin=-5, vmax=5, origin="lower", interpolation="nearest",
                cmap=colormaps["PuOr_r"].with_extremes(bad="#bbbbbb"),
            )  # fmt: skip
            axes.set_title(label, fontsize=16)
            axes.set_xticks([])
            axes.set_yticks([])
    bar = figure.colorbar(drawn, ax=panels, location="bottom", fraction=0.06, pad=0.03, aspect=50)
    bar.set_label("(result − truth) / expected noise, of 2 × 2 pixels", fontsize=14)
    bar.ax.tick_params(labelsize=13)
    _save(figure, path)


def rejection_table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return found, lost and noise for each way of rejecting, by number of backgrounds."""
    lines = [["backgrounds", *(f"`{method}`" for method in STYLES)]]
    for n in (2, 3, 4, 5, 6, 8, 10, 12):
        cells = [
            f"{row['found']:.1%} / {row['lost']:.1%} / {row['noise']:.2f}"
            for method in STYLES
            for row in rows
            if (row["method"], row["n"], row["amplitude"], row["inflated"]) == (method, n, 10, 1)
        ]
        lines.append([str(n), *cells])
    return lines


def errors_table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the scatter with and without propagation."""
    found = {(row["kind"], row["n"], row["errors"]): f"{row['scatter']:.3f}" for row in rows}
    lines = [["target and backgrounds", "backgrounds", "`none`", "`propagate`"]]
    lines += [
        [kind, str(n), found[kind, n, "none"], found[kind, n, "propagate"]]
        for kind, n in dict.fromkeys((kind, n) for kind, n, _ in found)
    ]
    return lines


def structure_table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return what is left of four backgrounds."""
    lines = [["options", "scatter", "8 x 8", "holes in a million", "level"]]
    lines += [
        [
            row["options"],
            f"{row['scatter']:.3f}",
            f"{row['scatter_8x8']:.2f}",
            f"{row['deep_per_million']:.0f}",
            f"{row['level']:+.3f}",
        ]
        for row in rows
        if row["n"] == 4
    ]
    return lines


def limits_tables(rows: list[dict[str, Any]]) -> dict[str, list[list[str]]]:
    """Return the tables of what is left where an assumption fails, by their names in the page."""

    def by_options(
        heading: str, chosen: list[dict[str, Any]], named: list[str], how: Any, key: str = "scene"
    ) -> list[list[str]]:
        found = {(row[key], row["options"]): how(row) for row in chosen}
        scenes = dict.fromkeys(row[key] for row in chosen)
        cells = [[str(each), *(found.get((each, o), "-") for o in named)] for each in scenes]
        return [[heading, *(f"`{each}`" for each in named)], *cells]

    def of(*beginnings: str) -> list[dict[str, Any]]:
        return [row for row in rows if row["scene"].startswith(beginnings)]

    levels = [
        {**row, "scene": f"{row['n']} {row['scene']}"}
        for row in of("backgrounds", "the same about")
    ]
    quiet = of("noise alone")
    return {
        "wrong-err": by_options(
            "ERR", [row for row in of("ERR") if row["n"] == 4],
            ["profile offsky", "err_scale trust", "reject mad, sigma 5"],
            lambda row: f"{row['total']:.3f} / {row['holes']:.0f}",
        ),
        "err-of-average": by_options(
            "backgrounds", quiet, list(dict.fromkeys(row["options"] for row in quiet)),
            lambda row: f"{row['pull']:.2f}", key="n",
        ),
        "levels": by_options(
            "levels", levels, ["level none", "level offset", "level scale"],
            lambda row: f"{row['total']:.3f}",
        ),
        "target": by_options(
            "target", of("target"),
            ["none", "target_offset fit", "target_scale fit", "both"],
            lambda row: f"{row['level']:+.2f} / {row['total']:.2f}",
        ),
    }  # fmt: skip


def put_table(page: Path, name: str, lines: list[list[str]]) -> None:
    """Put a table into a page, after its mark and in the place of an earlier one."""
    mark = f"<!-- table: {name} -->\n"
    before, after = page.read_text(encoding="utf-8").split(mark)
    rest = after.lstrip("\n").splitlines(keepends=True)
    while rest and rest[0].startswith("|"):
        del rest[0]
    cells = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    table = "".join(f"| {' | '.join(row)} |\n" for row in cells)
    page.write_text(f"{before}{mark}\n{table}\n{''.join(rest).lstrip()}", encoding="utf-8")


def _save(figure: Figure, path: Path) -> None:
    # Without the name of the program the same numbers give the same file.
    figure.savefig(path, dpi=100, bbox_inches="tight", metadata={"Software": None})


def main() -> None:
    """Draw all pictures, and put the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--dir", type=Path, default=HERE.parent / "docs" / "images")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "choosing.md")
    chosen = parser.parse_args()

    def rows_of(name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads((chosen.results / f"{name}.json").read_text())[
            "rows"
        ]
        return rows

    put_table(chosen.page, "rejection", rejection_table(rows_of("rejection")))
    put_table(chosen.page, "errors", errors_table(rows_of("errors")))
    put_table(chosen.page, "structure", structure_table(rows_of("structure")))
    for name, table in limits_tables(rows_of("limits")).items():
        put_table(chosen.page, name, table)
    chosen.dir.mkdir(parents=True, exist_ok=True)
    rejection_picture(rows_of("rejection"), chosen.dir / "choosing-rejection.png")
    errors_picture(rows_of("errors"), chosen.dir / "choosing-errors.png")
    structure_picture(chosen.dir / "choosing-structure.png")


if __name__ == "__main__":
    main()
