"""What do whole programmes cost, beside one run of the step for each target?"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from cases import FILES, Case, write_exposure_file
from measure import Goal, Missing, Row, Run, alternate, main, run, settle

HERE = Path(__file__).parent
N_BACKGROUNDS, N_TARGETS, N_DITHERS = 10, 20, 12
# The step is run on so many targets of each programme, its time taken for all of them.
N_SAMPLED = 4
# Exposures that are made; further targets are copies of these files.
N_MADE = 16

Measured = tuple[list[float], list[float], str]


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the cases; the files are made when the first one needs them."""
    with (
        tempfile.TemporaryDirectory(dir=options.dir, prefix="offsky-bench-") as folder,
        ExitStack() as stack,
    ):
        bench = Bench(FILES.quick() if options.quick else FILES, Path(folder), stack)
        size = " x ".join(map(str, bench.case.shape))
        one = f"offsky run, {N_TARGETS} targets, {N_BACKGROUNDS} backgrounds, {size}"

        def row(
            what: str,
            peer_name: str,
            measure: Callable[[int], Measured],
            goal: Goal,
            pairs: int,
            unit: str = "s",
        ) -> Row:
            n = options.pairs or (min(pairs, 2) if options.quick else pairs)
            return Row(what, peer_name, goal, lambda: measure(n), unit)

        step = "jwst: BackgroundStep for each target, warm process"
        yield row(one, step, bench.shared_versus_jwst, Goal(at_least=25), 3)
        loo = f"offsky run, leave-one-out over {N_DITHERS} dithers, {size}"
        yield row(loo, step, bench.dithers_versus_jwst, Goal(at_least=25), 3)
        further = f"each further target of a shared list, {size}"
        flushed = "cp of the target, flushed to disk as offsky's outputs are"
        yield row(further, flushed, bench.further_versus_flushed, Goal(at_most=1.3), 5)
        yield row(further, "cp of the target", bench.further_versus_copy, Goal(at_most=1.3), 5)
        subtract = f"offsky subtract, {N_BACKGROUNDS} backgrounds"
        yield row(f"peak memory, {one}", subtract, bench.memory, Goal(at_most=1.2), 3, "MB")
        yield row(
            f"40 products on two Dask workers of one thread, {size}",
            "on one",
            bench.dask,
            Goal(at_least=1.6),
            3,
        )
        small = "40 products of 40 groups, 256 x 256"
        yield row(f"{small}, two processes", "two threads", bench.processes, Goal(), 5)
        yield row(f"{small}, two processes", "one after the other", bench.serial, Goal(), 5)


class Bench:
    """Exposures in a folder, associations of them, and processes that work on them."""

    def __init__(self, case: Case, folder: Path, stack: ExitStack) -> None:
        self.case, self.folder, self._stack = case, folder, stack
        self.out = folder / "out"
        script = Path(sys.executable).with_name("offsky")
        self.command = [script] if script.exists() else [sys.executable, "-m", "offsky"]
        self._jwst: subprocess.Popen[str] | None = None

    def exposure(self, index: int) -> Path:
        """Return an exposure's file, written if it is not there yet."""
        path = self.folder / f"{index:03d}_rate.fits"
        if not path.exists():
            if index < N_MADE:
                write_exposure_file(self.case, index, path)
            else:
                # Of a target: no exposure is a background of itself.
                n_made_targets = N_MADE - N_BACKGROUNDS
                shutil.copy(self.exposure(N_BACKGROUNDS + index % n_made_targets), path)
        return path

    def association(self, name: str, products: dict[int, Sequence[int]]) -> Path:
        """Write an association: for each target its backgrounds, by number."""
        path = self.folder / f"{name}_asn.json"
        content = []
        for target, backgrounds in products.items():
            members = [{"expname": self.exposure(target).name, "exptype": "science"}]
            members += [
                {"expname": self.exposure(i).name, "exptype": "background"} for i in backgrounds
            ]
            content.append({"name": f"p{target:03d}", "members": members})
        path.write_text(json.dumps({"products": content}))
        return path

    def shared(self, n_targets: int) -> Path:
        """Return a programme of targets with one list of backgrounds."""
        first = N_BACKGROUNDS
        targets = range(first, first + n_targets)
        return self.association(f"shared{n_targets}", {i: range(first) for i in targets})

    def offsky(self, association: Path, *options: object) -> Run:
        """Run a programme from nothing, in a cold process."""
        shutil.rmtree(self.out, ignore_errors=True)
        settle()
        command = [*self.command, "run", association, "-o", self.out, "--json", *options]
        return run(command, cwd=self.folder)

    def jwst(self, target: Path, backgrounds: Sequence[Path], output: Path | None) -> float:
        """Run the step in the warm process; return its seconds."""
        if importlib.util.find_spec("jwst") is None:
            raise Missing("pip install jwst")
        if self._jwst is None:
            self._jwst = self._stack.enter_context(
                subprocess.Popen(
                    [sys.executable, HERE / "jwst_server.py"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    cwd=self.folder,
                )
            )
        process = self._jwst
        assert process.stdin is not None
        assert process.stdout is not None
        if not hasattr(process, "is_ready"):
            assert process.stdout.readline() == "ready\n"
            process.is_ready = True
        words = [None if output is None else str(output), str(target), [*map(str, backgrounds)]]
        process.stdin.write(json.dumps(words) + "\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    def versus_jwst(self, programme: dict[int, Sequence[int]], name: str, pairs: int) -> Measured:
        """Compare a programme with the step on some of its targets, saved as well."""
        theirs = self.folder / "jwst_bsub.fits"
        association = self.association(name, programme)
        sampled = list(programme)[:: max(1, len(programme) // N_SAMPLED)][:N_SAMPLED]

        def step(target: int) -> float:
            settle(theirs)
            paths = [self.exposure(i) for i in programme[target]]
            return self.jwst(self.exposure(target), paths, theirs)

        def steps() -> float:
            return sum(map(step, sampled)) * len(programme) / len(sampled)

        step(sampled[0])  # warm
        self.offsky(association)
        for target in sampled:
            step(target)
            for extension in ("SCI", "ERR", "DQ"):
                np.testing.assert_allclose(
                    pixels(self.out / f"p{target:03d}_bsub.fits", extension),
                    pixels(theirs, extension),
                    rtol=0,
                    # Both subtract in float32; the averages may differ in their last bit.
                    atol=5e-7 if extension == "SCI" else 0,
                )
        figures = alternate(lambda: self.offsky(association).wall_s, steps, pairs)
        settle(theirs)
        return *figures, (
            f"SCI within 5e-7, ERR, DQ identical; jwst's time is that of {len(sampled)} targets "
            f"times {len(programme) / len(sampled):g}; offsky's with the start of its process"
        )

    def shared_versus_jwst(self, pairs: int) -> Measured:
        """Many targets, one list of backgrounds."""
        first = N_BACKGROUNDS
        programme: dict[int, Sequence[int]] = {
            i: range(first) for i in range(first, first + N_TARGETS)
        }
        return self.versus_jwst(programme, "targets", pairs)

    def dithers_versus_jwst(self, pairs: int) -> Measured:
        """Each exposure's backgrounds are the others."""
        everything = range(N_DITHERS)
        programme: dict[int, Sequence[int]] = {
            i: [j for j in everything if j != i] for i in everything
        }
        return self.versus_jwst(programme, "dithers", pairs)

    def further_versus_flushed(self, pairs: int) -> Measured:
        """Compare with copies that are on the disk when it is done."""
        return self._further(pairs, flush=True)

    def further_versus_copy(self, pairs: int) -> Measured:
        """Compare with copies that are in the system's memory only."""
        return self._further(pairs, flush=False)

    def _further(self, pairs: int, *, flush: bool) -> Measured:
        few, many = N_TARGETS // 2, 2 * N_TARGETS
        short, long = self.shared(few), self.shared(many)
        n_more = many - few
        first = N_BACKGROUNDS + few
        targets = [self.exposure(i) for i in range(first, first + n_more)]
        copies = self.folder / "copies"

        def ours() -> float:
            return (self.offsky(long).wall_s - self.offsky(short).wall_s) / n_more

        def copy() -> float:
            shutil.rmtree(copies, ignore_errors=True)
            shutil.rmtree(self.out, ignore_errors=True)
            copies.mkdir()
            settle()
            seconds = run(["cp", *targets, copies], cwd=self.folder).wall_s
            if flush:
                written = [copies / path.name for path in targets]
                seconds += run(["sync", "-d", *written], cwd=self.folder).wall_s
            return seconds / n_more

        ours(), copy()
        figures = alternate(ours, copy, pairs)
        shutil.rmtree(copies)
        return *figures, f"a run of {many} targets less one of {few}, by {n_more}"

    def memory(self, pairs: int) -> Measured:
        """Compare with a single run."""
        association = self.shared(N_TARGETS)
        paths = [self.exposure(i) for i in (N_BACKGROUNDS, *range(N_BACKGROUNDS))]
        output = self.folder / "single_bsub.fits"

        def single() -> float:
            settle(output)
            return run([*self.command, "subtract", *paths, "-o", output], cwd=self.folder).peak_mb

        return *alternate(lambda: self.offsky(association).peak_mb, single, pairs), ""

    def dask(self, pairs: int) -> Measured:
        """Compare two workers with one, on eight groups of five targets."""
        if importlib.util.find_spec("distributed") is None:
            raise Missing("pip install offsky[dask]")
        programme: dict[int, Sequence[int]] = {}
        for group in range(8):
            # Windows of four out of the backgrounds: eight different lists.
            backgrounds = [(group + i) % N_BACKGROUNDS for i in range(4)]
            for i in range(5):
                programme[N_BACKGROUNDS + 5 * group + i] = backgrounds
        association = self.association("forty", programme)

        def seconds(n_workers: int) -> float:
            with cluster(self.folder, n_workers) as address:
                # Workers import offsky when they get their first group; not for us to time.
                tiny = self.association("warm", {N_BACKGROUNDS + i: [i] for i in range(8)})
                self.offsky(tiny, "--dask", address)
                self.offsky(association, "--dask", address)
            return float(json.loads((self.out / "summary.json").read_text())["elapsed_s"])

        theirs, ours = alternate(lambda: seconds(1), lambda: seconds(2), pairs)
        return ours, theirs, "the run's own elapsed_s, without the start of processes"

    def processes(self, pairs: int) -> Measured:
        """Compare processes with threads that take a group each, in small groups."""
        return self._small(pairs, _two_threads)

    def serial(self, pairs: int) -> Measured:
        """Compare processes with one process whose threads share each group."""
        from offsky.programme.executors import SerialExecutor

        return self._small(pairs, SerialExecutor)

    def _small(self, pairs: int, make_peer: Callable[[], object]) -> Measured:
        from offsky.options import Options
        from offsky.programme.executors import ProcessExecutor
        from offsky.programme.planning import make_plan
        from offsky.programme.run import run_programme
        from offsky.selection.pairing import Pairing

        folder = self.folder / "small"
        folder.mkdir(exist_ok=True)
        small = Case(50, (256, 256), seed=1)
        bench = Bench(small, folder, self._stack)
        programme: dict[int, Sequence[int]] = {
            10 + i: [i % 10, (i + 1 + i // 10) % 10] for i in range(40)
        }
        association = bench.association("small", programme)
        plan = make_plan([association], pairing=Pairing(), options=Options())

        def seconds(executor: object) -> float:
            shutil.rmtree(bench.out, ignore_errors=True)
            settle()
            start = time.perf_counter()
            summary = run_programme(plan, bench.out, executor=executor)  # type: ignore[arg-type]
            assert summary.count("COMPLETE") == 40, summary
            return time.perf_counter() - start

        ours = lambda: seconds(ProcessExecutor(2, 1))  # noqa: E731
        return *alternate(ours, lambda: seconds(make_peer()), pairs), "with the processes' start"


class _two_threads:
    """The executor that was not chosen: groups in threads of this process."""

    n_workers, threads, is_here = 2, 1, True

    def run(self, jobs: Sequence[object]) -> Iterator[object]:
        from offsky.programme.job import make_group_report

        with ThreadPoolExecutor(2) as pool:
            for report in pool.map(make_group_report, jobs):
                yield from report.outcomes


@contextmanager
def cluster(folder: Path, n_workers: int) -> Iterator[str]:
    """Start a scheduler and workers as separate commands; give the address."""
    with ExitStack() as stack:

        def start(name: str, *words: object, until: str) -> re.Match[str]:
            log = folder / f"{name}.log"
            with log.open("wb") as file:
                process = subprocess.Popen(
                    [sys.executable, "-m", *map(str, words), "--no-dashboard"],
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "PYTHONWARNINGS": "ignore"},
                )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            deadline = time.monotonic() + 60
            while (found := re.search(until, log.read_text())) is None:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(log.read_text()[-2000:])
                time.sleep(0.05)
            return found

        loopback = ("--host", "127.0.0.1")
        scheduler = start(
            "scheduler", "distributed.cli.dask_scheduler", *loopback, "--port", 0,
            until=r"Scheduler at:\s+(tcp://\S+)",
        )  # fmt: skip
        address = scheduler[1]
        for i in range(n_workers):
            start(
                f"worker{i}", "distributed.cli.dask_worker", address, *loopback,
                "--nthreads", 1, "--no-nanny", "--local-directory", folder,
                until="Registered to",
            )  # fmt: skip
        yield address


def pixels(path: Path, extension: str) -> np.ndarray:
    """Return an array of a FITS file."""
    from astropy.io import fits

    return fits.getdata(path, extension)


if __name__ == "__main__":
    assert __doc__
    main("programmes", __doc__, rows)
