"""A Dask cluster whose scheduler and workers are processes of their own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def process(log: Path, *arguments: object) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process in the background, to be ended with its children at the end of the block."""
    with log.open("wb") as file:
        started = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.terminate()
            try:
                started.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


class Cluster:
    """A scheduler and workers, each started by a command."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        log = folder / "scheduler.log"
        stack.enter_context(
            process(
                log, "-m", "distributed.cli.dask_scheduler",
                "--host", "127.0.0.1", "--port", 0, "--no-dashboard",
            )
        )  # fmt: skip
        found: list[str] = []

        def listens() -> bool:
            found[:] = re.findall(r"Scheduler at:\s+(tcp://127\.0\.0\.1:\d+)", log.read_text())
            return bool(found)

        wait_for(listens)
        self.address = found[0]
        self.workers: list[subprocess.Popen[bytes]] = []

    def add_worker(self) -> None:
        n = len(self.workers)
        log = self._folder / f"worker{n}.log"
        self.workers.append(
            self._stack.enter_context(
                process(
                    log, "-m", "distributed.cli.dask_worker", self.address,
                    "--host", "127.0.0.1", "--nthreads", 1, "--no-dashboard", "--no-nanny",
                    "--local-directory", self._folder,
                )
            )
        )  # fmt: skip
        wait_for(lambda: "Registered to" in log.read_text())
