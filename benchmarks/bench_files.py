"""What does the whole job from files to a file cost, in time and in memory?"""

import argparse
import importlib.util
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from cases import FILES, Case, write_exposure_file
from measure import Goal, Missing, Row, Run, alternate, main, run, settle

HERE = Path(__file__).parent
Measured = tuple[list[float], list[float], str]


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the cases; the files are made when the first one needs them."""
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="offsky-bench-") as folder:
        bench = Bench(FILES.quick() if options.quick else FILES, Path(folder))
        size = " x ".join(map(str, bench.case.shape))

        def row(
            what: str,
            peer_name: str,
            measure: Callable[[int], Measured],
            goal: Goal,
            pairs: int,
            unit: str = "s",
        ) -> Row:
            n = options.pairs or (min(pairs, 3) if options.quick else pairs)
            return Row(what, peer_name, goal, lambda: measure(n), unit)

        ten, more = f"offsky subtract, N = 10, {size}", f"offsky subtract, N = 32, {size}"
        siril = "Siril: stack rej s 3 3 -nonorm, SCI only"
        yield row(ten, "jwst: BackgroundStep", bench.versus_jwst, Goal(at_least=10), 5)
        yield row(ten, siril, partial(bench.versus_siril, 10), Goal(at_most=1), 9)
        yield row(
            f"{ten}, less the start of Python with numpy and astropy.io.fits",
            "cat of the 11 files, cp of the target",
            bench.versus_bytes,
            Goal(at_most=3),
            15,
        )
        yield row(f"peak memory, {ten}", "none", bench.peak_memory, Goal(at_most=300), 3, "MB")
        yield row(
            "peak memory with 40 backgrounds",
            "offsky with 10",
            bench.growth_of_memory,
            Goal(at_most=1.1),
            3,
            "MB",
        )
        yield row(more, siril, partial(bench.versus_siril, 32), Goal(at_most=0.7), 5)
        yield row(
            "offsky --help", "python -c 'import astropy.io.fits'", bench.help, Goal(at_most=1), 21
        )


class Bench:
    """Exposures in a folder, and cold processes that work on them."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.output = folder / "offsky_bsub.fits"
        script = Path(sys.executable).with_name("offsky")
        self.command = [script] if script.exists() else [sys.executable, "-m", "offsky"]

    def files(self, n: int) -> list[Path]:
        """Return the target and n backgrounds, written if they are not there yet."""
        paths = [self.folder / f"{i:02d}_rate.fits" for i in range(n + 1)]
        for i, path in enumerate(paths):
            if not path.exists():
                write_exposure_file(self.case, i, path)
        return paths

    def offsky(self, paths: list[Path]) -> Run:
        """Subtract; the output of the run before is removed first."""
        settle(self.output)
        command = [*self.command, "subtract", *paths, "-o", self.output]
        return run(command, cwd=self.folder)

    def versus_jwst(self, pairs: int) -> Measured:
        """Compare with the step of the pipeline, its output saved as well."""
        if importlib.util.find_spec("jwst") is None:
            raise Missing("pip install jwst")
        paths = self.files(10)
        theirs = self.folder / "jwst_bsub.fits"

        def jwst() -> float:
            settle(theirs)
            command = [sys.executable, HERE / "jwst_step.py", theirs, *paths]
            return run(
                command, cwd=self.folder, env={"STPIPE_DISABLE_CRDS_STEPPARS": "true"}
            ).wall_s

        jwst()
        self.offsky(paths)
        for name in ("SCI", "ERR", "DQ"):
            # Both subtract in float32; the averages may differ in their last bit.
            tolerance = 5e-7 if name == "SCI" else 0
            np.testing.assert_allclose(
                pixels(self.output, name), pixels(theirs, name), rtol=0, atol=tolerance
            )
        figures = alternate(lambda: self.offsky(paths).wall_s, jwst, pairs)
        settle(theirs)
        return *figures, "ERR, DQ identical; SCI within 5e-7"

    def versus_siril(self, n: int, pairs: int) -> Measured:
        """Compare with stacking the backgrounds' SCI alone, nothing subtracted."""
        if shutil.which("siril-cli") is None:
            raise Missing("apt install siril")
        paths = self.files(n)
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            siril = Siril(Path(name), paths[1:])
            siril()
            note = siril.check()
            return *alternate(lambda: self.offsky(paths).wall_s, siril, pairs), note

    def versus_bytes(self, pairs: int) -> Measured:
        """Compare with moving the same bytes and doing nothing with them."""
        paths = self.files(10)
        copy = self.folder / "copy.fits"
        start = [sys.executable, "-c", "import numpy, astropy.io.fits"]
        move = ["sh", "-c", 'cp "$1" "$0"; cat "$@" > /dev/null', copy, *paths]

        def ours() -> float:
            started = run(start, cwd=self.folder).wall_s
            return self.offsky(paths).wall_s - started

        def mover() -> float:
            settle(copy)
            return run(move, cwd=self.folder).wall_s

        ours(), mover()
        figures = alternate(ours, mover, pairs)
        settle(copy)
        return *figures, "same bytes read and written"

    def peak_memory(self, runs: int) -> Measured:
        """Measure alone: the goal is a number."""
        paths = self.files(10)
        return [self.offsky(paths).peak_mb for _ in range(runs)], [], ""

    def growth_of_memory(self, pairs: int) -> Measured:
        """Compare many backgrounds with ten."""
        ten, forty = self.files(10), self.files(40)
        figures = alternate(
            lambda: self.offsky(forty).peak_mb, lambda: self.offsky(ten).peak_mb, pairs
        )
        return *figures, ""

    def help(self, pairs: int) -> Measured:
        """Compare the start of the command with one import."""
        peer = [sys.executable, "-c", "import astropy.io.fits"]
        ours = [*self.command, "--help"]
        run(ours, cwd=self.folder), run(peer, cwd=self.folder)
        figures = alternate(
            lambda: run(ours, cwd=self.folder).wall_s,
            lambda: run(peer, cwd=self.folder).wall_s,
            pairs,
        )
        return *figures, ""


class Siril:
    """A stack of plain SCI images in a folder, and the process that averages it."""

    # Siril's images are between 0 and 1, and 0 stands for a pixel without a value.
    SCALE = np.float32(1 / 64)
    SCRIPT = "requires 1.0.0\nsetext fit\nset32bits\nsetcpu 2\nstack z_ rej s 3 3 -nonorm\n"

    def __init__(self, folder: Path, exposures: list[Path]) -> None:
        from astropy.io import fits

        self.folder, self.exposures = folder, exposures
        for i, path in enumerate(exposures, 1):
            sci = np.nan_to_num(pixels(path, "SCI")) * self.SCALE
            fits.writeto(folder / f"z_{i:05d}.fit", sci)
        (folder / "stack.ssf").write_text(self.SCRIPT)

    def __call__(self) -> float:
        """Stack, in a cold process with settings of its own; return the seconds."""
        settle(self.folder / "z_stacked.fit")
        env = {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        command = ["siril-cli", "-d", self.folder, "-s", self.folder / "stack.ssf"]
        return run(command, cwd=self.folder, env=env).wall_s

    def check(self) -> str:
        """Compare some rows with astropy's clip, told to divide by n - 1 as Siril does."""
        from astropy.stats import sigma_clip

        first_rows = [pixels(path, "SCI")[:128] for path in self.exposures]
        stack = np.stack(first_rows).astype("f8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # non-finite samples are in the data
            kept = sigma_clip(
                stack, sigma=3.0, maxiters=None, axis=0, stdfunc=partial(np.nanstd, ddof=1)
            )
        expected = kept.mean(axis=0).filled(0)
        stacked = pixels(self.folder / "z_stacked.fit")[:128] / self.SCALE
        other = np.abs(stacked - expected) > 1e-5
        assert other.mean() < 1e-4, f"{other.mean():.2%} of the pixels differ"
        return "Siril's SCI within 1e-5 of astropy's clip, dividing by n - 1 as Siril does"


def pixels(path: Path, extension: str | int = 0) -> np.ndarray:
    """Return an array of a FITS file."""
    from astropy.io import fits

    return fits.getdata(path, extension)


if __name__ == "__main__":
    assert __doc__
    main("files", __doc__, rows)
