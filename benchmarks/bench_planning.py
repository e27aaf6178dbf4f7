"""What does planning cost, and a run of tiny products, as programmes grow?"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from measure import Goal, Row, main, run, settle

# Pixels do not matter to a plan, and hardly to a run of tiny products.
SHAPE = (32, 32)
# Files of a programme of one association: targets take turns.
N_SHARED, N_TARGETS = 10, 30
# Fields of a folder, each with a configuration and dedicated backgrounds of its own: lists
# do not grow with the folder.
N_FIELD, N_DEDICATED, N_PATTERN = 100, 4, 4
# Cards of a real exposure's primary and SCI headers beyond those of the template.
N_PRIMARY_CARDS, N_SCI_CARDS = 180, 90
CARD = 80

Measured = tuple[list[float], list[float], str]


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the cases; the files are made when the first one needs them."""
    many = 2_000 if options.quick else 20_000
    few = many // 4
    pairs = options.pairs or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="offsky-bench-") as folder:
        bench = Bench(Path(folder), pairs)
        linear = Goal(at_most=4.5)

        def growth(what: str, n: int, measure: object) -> Row:
            return Row(what, f"of {n // 4}", linear, measure)  # type: ignore[arg-type]

        yield growth(
            f"offsky plan of {many} products, one association over few files",
            many,
            lambda: bench.growth(bench.plan_association, few, many),
        )
        yield growth(
            f"offsky plan of a folder of {many} files, --from dedicated",
            many,
            lambda: bench.growth(bench.plan_dedicated, few, many),
        )
        yield growth(
            f"offsky plan of a folder of {many} files, --from dithers",
            many,
            lambda: bench.growth(bench.plan_dithers, few, many),
        )
        yield Row(
            "offsky plan --from dedicated, for each file",
            "",
            Goal(at_most=2.0),
            lambda: bench.per_file(bench.plan_dedicated, many),
            "ms",
        )
        for n in (many // 20, many // 2):
            yield Row(
                f"offsky run of {n} products, patterns of {N_PATTERN}, for each without planning",
                "",
                Goal(at_most=4.0),
                lambda n=n: bench.run_dithers(n),
                "ms",
            )


class Bench:
    """Folders of tiny exposures, and cold processes that plan and run them."""

    def __init__(self, folder: Path, pairs: int) -> None:
        self.folder, self.pairs = folder, pairs
        script = Path(sys.executable).with_name("offsky")
        self.command = [script] if script.exists() else [sys.executable, "-m", "offsky"]
        self.exposures = Exposures(folder / "template.fits")

    def start(self) -> float:
        """Return the time of a process that imports what a plan needs, and plans nothing."""
        empty = self.folder / "none_asn.json"
        if not empty.exists():
            # A plan of one product: imports and all else that comes once.
            self.association(empty, 1, self.shared_files())
        plan = self.folder / "none.json"
        settle(plan)
        return run([*self.command, "plan", empty, "-o", plan], cwd=self.folder).wall_s

    def plan(self, source: str, *inputs: Path) -> float:
        """Return the time of a cold plan, its start taken off."""
        plan = self.folder / "plan.json"
        settle(plan)
        words = [*self.command, "plan", *inputs, "--from", source, "-o", plan]
        return run(words, cwd=self.folder).wall_s - self.start()

    def plan_association(self, n: int) -> float:
        """Plan many products of few files."""
        path = self.folder / f"shared{n}_asn.json"
        if not path.exists():
            self.association(path, n, self.shared_files())
        return self.plan("associations", path)

    def plan_dedicated(self, n: int) -> float:
        """Plan targets of several configurations, each with its backgrounds."""
        folder = self.folder / f"dedicated{n}"
        self.fill(folder, (field(i) for i in range(n)))
        return self.plan("dedicated", folder)

    def plan_dithers(self, n: int) -> float:
        """Plan patterns of a few exposures."""
        folder = self.folder / f"dithers{n}"
        self.fill(folder, (pattern(i) for i in range(n)))
        return self.plan("dithers", folder)

    def growth(self, plan: object, few: int, many: int) -> Measured:
        """Compare the larger programme with the smaller, in turns."""
        long, short = [], []
        for _ in range(self.pairs):
            long.append(plan(many))  # type: ignore[operator]
            short.append(plan(few))  # type: ignore[operator]
        return long, short, "a process from start to end, less one that plans a single product"

    def per_file(self, plan: object, n: int) -> Measured:
        """Divide by the number of files."""
        figures = [1e3 * plan(n) / n for _ in range(self.pairs)]  # type: ignore[operator]
        return figures, [], "as above; headers of a real exposure's length"

    def run_dithers(self, n: int) -> Measured:
        """Run a plan of patterns, in one cold process."""
        folder, plan = self.folder / f"dithers{n}", self.folder / f"dithers{n}.json"
        self.fill(folder, (pattern(i) for i in range(n)))
        if not plan.exists():
            words = [*self.command, "plan", folder, "--from", "dithers", "-o", plan]
            run(words, cwd=self.folder)
        figures = []
        out = self.folder / "out"
        for _ in range(self.pairs):
            shutil.rmtree(out, ignore_errors=True)
            os.sync()
            seconds = run([*self.command, "run", plan, "-o", out], cwd=self.folder).wall_s
            summary = json.loads((out / "summary.json").read_text())
            assert summary["n_complete"] == n, summary["n_complete"]
            figures.append(1e3 * (seconds - self.start()) / n)
        shutil.rmtree(out, ignore_errors=True)
        return figures, [], "a process from start to end, less one that plans a single product"

    def shared_files(self) -> list[Path]:
        """Return the files of the association, written if they are not there yet."""
        folder = self.folder / "shared"
        self.fill(folder, ({"EXPOSURE": i} for i in range(N_SHARED + N_TARGETS)))
        return sorted(folder.iterdir())

    def association(self, path: Path, n: int, files: Sequence[Path]) -> None:
        """Write an association of products that share files: ten backgrounds each."""
        products = []
        for i in range(n):
            target = files[N_SHARED + i % N_TARGETS]
            used = [files[(i // 100 + j) % N_SHARED] for j in range(10)]
            members = [{"expname": f"shared/{target.name}", "exptype": "science"}]
            members += [{"expname": f"shared/{b.name}", "exptype": "background"} for b in used]
            products.append({"name": f"p{i:05d}", "members": members})
        path.write_text(json.dumps({"products": products}))

    def fill(self, folder: Path, facts: Iterator[dict[str, object]]) -> None:
        """Write a folder of exposures, if it is not there yet."""
        if folder.exists():
            return
        folder.mkdir()
        for i, each in enumerate(facts):
            name = f"jw01234001001_02101_{i:05d}_mirimage_rate.fits"
            self.exposures.write(folder / name, {"FILENAME": name, **each})
        os.sync()


def field(i: int) -> dict[str, object]:
    """Return what tells the i-th exposure of fields with dedicated backgrounds."""
    number, place = divmod(i, N_FIELD)
    return {
        "EXPOSURE": place,
        "OBSERVTN": f"{1 + number:03d}",
        "FILTER": f"F{number:03d}W",
        "BKGDTARG": place < N_DEDICATED,
    }


def pattern(i: int) -> dict[str, object]:
    """Return what tells the i-th exposure of patterns of a few."""
    number, place = divmod(i, N_PATTERN)
    visit, observation = divmod(number, 999)
    return {
        "EXPOSURE": place + 1,
        "OBSERVTN": f"{1 + observation:03d}",
        "VISITGRP": f"{1 + visit:02d}",
        "RA_REF": 150.0 + place / 3600,
    }


class Exposures:
    """Tiny exposures with headers of a real one's length, made from one template."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._template = b""
        self._places: dict[str, int] = {}

    def write(self, path: Path, facts: dict[str, object]) -> None:
        """Write the template with some cards of its own."""
        if not self._template:
            self._make()
        content = bytearray(self._template)
        for key, value in facts.items():
            content[self._places[key] : self._places[key] + CARD] = card(key, value)
        path.write_bytes(content)

    def _make(self) -> None:
        from astropy.io import fits

        from offsky.testing import write_exposure

        rng = np.random.default_rng(1)
        write_exposure(
            self._path,
            sci=rng.normal(1, 0.1, SHAPE).astype("f4"),
            err=np.full(SHAPE, 0.1, "f4"),
            dq=0,
            variances=True,
            metadata={
                "meta.wcsinfo.ra_ref": 150.0,
                "meta.wcsinfo.dec_ref": 2.0,
                "meta.observation.observation_number": "001",
            },
        )
        with fits.open(self._path, memmap=False) as hdus:
            for hdu, n_cards in ((hdus[0], N_PRIMARY_CARDS), (hdus["SCI"], N_SCI_CARDS)):
                for i in range(n_cards):
                    value = (i * 1.25, f"text {i}", i % 2 == 0)[i % 3]
                    hdu.header[f"BENCH{i:03d}"] = (value, "a card that nobody asks for")
            region = "POLYGON ICRS  " + " ".join(["346.631258972 19.907155674"] * 4)
            hdus["SCI"].header["S_REGION"] = (region, "spatial extent of the observation")
            hdus.writeto(self._path, overwrite=True)
        self._template = self._path.read_bytes()
        for start in range(0, len(self._template), CARD):
            key = self._template[start : start + 8].decode("latin-1").rstrip()
            if self._template[start + 8 : start + 10] == b"= ":
                self._places.setdefault(key, start)


def card(key: str, value: object) -> bytes:
    """Return one card."""
    from astropy.io import fits

    return fits.Card(key, str(value) if key == "EXPOSURE" else value).image.encode("ascii")


if __name__ == "__main__":
    assert __doc__
    main("planning", __doc__, rows)
