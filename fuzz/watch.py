"""Workers that try cases, each watched: how long, how much memory, and whether it lives."""

import ctypes
import faulthandler
import gc
import multiprocessing
import os
import resource
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fuzz.attempt import Verdict, attempt
from fuzz.case import Case

Key = tuple[str, int, int]
"""What makes a case: kind, seed and number."""

HANG_S, MOST_BYTES = 10.0, 2**30
_POLL_S, _AT_A_TIME = 0.25, 40
_PAGE = resource.getpagesize()


@dataclass(frozen=True)
class Tried:
    """A case that was tried."""

    key: Key
    verdict: Verdict


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    waiting: deque[Key] = field(default_factory=deque)
    since: float = 0.0

    @property
    def resident(self) -> int:
        """Bytes of memory that it has."""
        with suppress(OSError, IndexError):
            return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE
        return 0


def tried(keys: Sequence[Key], make: Callable[[Key], Case], n_workers: int) -> Iterator[Tried]:
    """Try cases, in any order; what hangs, dies or eats memory is told as a failure.

    A case that takes too long is tried once more, alone in a new process: the machine may
    have been busy.
    """
    todo, suspects = deque(keys), set[Key]()
    workers = [_start(make) for _ in range(n_workers)]
    try:
        while todo or any(worker.waiting for worker in workers):
            for worker in workers:
                if not worker.waiting and todo:
                    n_next = 1 if todo[0] in suspects else _AT_A_TIME
                    batch = [todo.popleft() for _ in range(min(n_next, len(todo)))]
                    worker.waiting.extend(batch)
                    worker.since = time.monotonic()
                    worker.pipe.send(batch)
            ready = wait([worker.pipe for worker in workers], _POLL_S)
            for i, worker in enumerate(workers):
                found = list(_received(worker)) if worker.pipe in ready else []
                yield from found
                wrong = _wrong(worker)
                if wrong is None:
                    continue
                _end(worker)
                workers[i] = _start(make)
                if worker.waiting:
                    key = worker.waiting.popleft()
                    todo.extendleft(reversed(worker.waiting))
                    if wrong.startswith("hang") and key not in suspects:
                        suspects.add(key)
                        todo.appendleft(key)
                    else:
                        yield Tried(key, Verdict("failed", wrong))
    finally:
        for worker in workers:
            _end(worker)


def _received(worker: _Worker) -> Iterator[Tried]:
    with suppress(EOFError, ConnectionError):
        while worker.waiting and worker.pipe.poll():
            status, failure = worker.pipe.recv()
            worker.since = time.monotonic()
            yield Tried(worker.waiting.popleft(), Verdict(status, failure))


def _wrong(worker: _Worker) -> str | None:
    """Tell what is wrong with a worker that has something to do."""
    if not worker.process.is_alive():
        code = worker.process.exitcode
        return f"crash: {signal.Signals(-code).name if code and code < 0 else f'exit {code}'}"
    if worker.waiting and time.monotonic() - worker.since > HANG_S:
        return f"hang: more than {HANG_S:.0f} s"
    if worker.resident > MOST_BYTES:
        return f"memory: {worker.resident / 2**20:.0f} MB"
    return None


def _start(make: Callable[[Key], Case]) -> _Worker:
    # Forked: what was imported and made so far is there at once.
    context: Any = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, make), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.kill()
    worker.process.join()


def _work(pipe: Connection, make: Callable[[Key], Case]) -> None:
    """Try cases as they come, in a folder of this process."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no worker without its parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.disable()
    gc.freeze()
    # What offsky warns of is not read here.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    # What eats memory fast is stopped before the next look at it.
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as name, suppress(EOFError):
        folder = Path(name, "case")
        folder.mkdir()
        while True:
            for key in pipe.recv():
                _reset_peak()
                verdict = attempt(make(key), folder)
                peak = _peak()
                if verdict.failure is None and peak > MOST_BYTES:
                    verdict = Verdict("failed", f"memory: {peak / 2**20:.0f} MB")
                pipe.send((verdict.status, verdict.failure))


def _memory_folder() -> str | None:
    """Return a folder in memory, where there is one: no disk is worn out."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _reset_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Return the most memory that this process has had since, in bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0
