"""What does a report cost: time, memory, bytes, and the wait for the first picture?"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from cases import FILES, Case, write_exposure_file
from measure import Goal, Missing, Row, Run, main, run, settle

Measured = tuple[list[float], list[float], str]
PROFILES = ("jwst", "offsky")


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the cases; the files are made when the first one needs them."""
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="offsky-bench-") as folder:
        bench = Bench(FILES.quick() if options.quick else FILES, Path(folder))
        size = " x ".join(map(str, bench.case.shape))

        def row(
            what: str, measure: Callable[[int], Measured], goal: float, pairs: int, unit: str
        ) -> Row:
            n = options.pairs or (min(pairs, 3) if options.quick else pairs)
            return Row(what, "none", Goal(at_most=goal), lambda: measure(n), unit)

        for profile in PROFILES:
            what = f"--report, N = 10, {size}, profile {profile}"
            yield row(f"time added, {what}", partial(bench.time, profile), 0.4, 11, "s")
            yield row(f"bytes of the page, {what}", partial(bench.size, profile), 2.0, 1, "MB")
        for n in (10, 40):
            yield row(
                f"memory added, --report, N = {n}, {size}", partial(bench.memory, n), 40, 3, "MB"
            )
        cube = "cube of 100 x 256 x 256"
        yield row(f"bytes of the page, {cube}", bench.size_of_cube, 2.0, 1, "MB")
        yield row(f"first picture in Chromium, {size}", bench.first_picture, 1.0, 5, "s")
        yield row("bytes of an index of 1,000 products", bench.size_of_index, 5.0, 1, "MB")
        yield row("index of 1,000 products in Chromium", bench.open_index, 3.0, 5, "s")


class Bench:
    """Exposures in a folder, and cold processes that work on them."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.output, self.page = folder / "offsky_bsub.fits", folder / "offsky_bsub.html"
        script = Path(sys.executable).with_name("offsky")
        self.command = [script] if script.exists() else [sys.executable, "-m", "offsky"]

    def files(self, n: int) -> list[Path]:
        """Return the target and n backgrounds, written if they are not there yet."""
        paths = [self.folder / f"{i:02d}_rate.fits" for i in range(n + 1)]
        for i, path in enumerate(paths):
            if not path.exists():
                write_exposure_file(self.case, i, path)
        return paths

    def offsky(self, paths: list[Path], profile: str = "jwst", *, report: bool = True) -> Run:
        """Subtract; the output of the run before is removed first."""
        settle(self.output, self.page, self.page.with_suffix(".json"))
        command = [*self.command, "subtract", *paths, "-o", self.output, f"--profile={profile}"]
        return run([*command, *(["--report"] if report else [])], cwd=self.folder)

    def time(self, profile: str, pairs: int) -> Measured:
        """Take turns with and without a report; tell the difference."""
        paths = self.files(10)
        self.offsky(paths, profile)
        added = [
            self.offsky(paths, profile).wall_s - self.offsky(paths, profile, report=False).wall_s
            for _ in range(pairs)
        ]
        return added, [], "differences of pairs of cold processes"

    def memory(self, n: int, pairs: int) -> Measured:
        """Take turns with and without a report; tell the difference of the peaks."""
        paths = self.files(n)
        added = [
            self.offsky(paths).peak_mb - self.offsky(paths, report=False).peak_mb
            for _ in range(pairs)
        ]
        return added, [], ""

    def size(self, profile: str, runs: int) -> Measured:
        """Tell the bytes of a page, and its steps in the noise of a displayed pixel."""
        self.offsky(self.files(10), profile)
        return [self.page.stat().st_size / 1e6], [], _steps(self.page)

    def size_of_cube(self, runs: int) -> Measured:
        """Tell the bytes of the page of a cube."""
        from offsky.testing import write_exposure

        rng = np.random.default_rng(1)
        paths = [self.folder / f"cube{i}_rateints.fits" for i in range(3)]
        for path in paths:
            sci = 1 + 0.05 * rng.standard_normal((100, 256, 256), dtype="f4")
            write_exposure(
                path, sci=sci, err=np.full_like(sci, 0.05), dq=np.zeros(sci.shape, "u4")
            )
        self.offsky(paths)
        return [self.page.stat().st_size / 1e6], [], _steps(self.page)

    def first_picture(self, runs: int) -> Measured:
        """Tell how long a page takes from disk until its picture is painted."""
        self.offsky(self.files(10))
        return _opened(self.page, runs), [], "Chromium, from disk"

    def index(self) -> Path:
        """Write an index of 1,000 products that all have a page, small pictures and numbers."""
        self.offsky(self.files(1))
        command = [*self.command, "report", self.output, self.output, "-o", self.folder / "pages"]
        run(command, cwd=self.folder)
        from offsky.reporting.indexing import write_index

        folder = self.folder / "pages"
        told = json.loads((folder / "index.json").read_text())["products"][0]
        entries = [{**told, "name": f"jw{i:011d}_nrca1_bsub.fits"} for i in range(1000)]
        return write_index(folder, entries)

    def size_of_index(self, runs: int) -> Measured:
        """Tell the bytes of an index."""
        return [self.index().stat().st_size / 1e6], [], ""

    def open_index(self, runs: int) -> Measured:
        """Tell how long an index takes from disk until its table is painted."""
        return _opened(self.index(), runs), [], "Chromium, from disk"


def _steps(page: Path) -> str:
    """Return the largest step of a page's values, in the noise of a displayed pixel."""
    text = page.read_text(encoding="utf-8")
    begin = text.index(">", text.index('id="offsky-data"')) + 1
    told = json.loads(text[begin : text.index("</script>", begin)])
    steps = [
        each["scale"]["step"] / each["noise"] for each in told["planes"].values() if each["noise"]
    ]
    return f"steps of {max(steps):.2f} sigma at most"


def _opened(page: Path, runs: int) -> list[float]:
    """Open a page in a browser some times; return the seconds until it says that it is ready."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Missing("pip install playwright") from None
    chromium = shutil.which("chromium")
    if chromium is None:
        raise Missing("apt install chromium")
    seconds = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium)
        for _ in range(runs):
            tab = browser.new_page(viewport={"width": 1200, "height": 900})
            tab.add_init_script(
                "new MutationObserver(() => { if (document.documentElement.dataset.offskyState "
                "=== 'ready') window.readyAt ??= performance.now(); })"
                ".observe(document, {attributes: true, subtree: true})"
            )
            tab.goto(f"file://{page}")
            tab.wait_for_function("window.readyAt")
            seconds.append(tab.evaluate("window.readyAt") / 1000)
            tab.close()
        browser.close()
    return seconds


if __name__ == "__main__":
    main("reports", __doc__, rows)
