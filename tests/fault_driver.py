"""Use a door again and again, each time with another system call failing.

Started by `test_system_calls` with the library of `faults.c` before the C library, and a list of
trials as JSON. Everything is imported once; each attempt is a process that is forked. Prints as
JSON, for each trial, how many calls were tried and what was wrong with any.
"""

import ctypes
import gc
import gzip
import json
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import offsky
from offsky.command.main import cli
from offsky.stopping import stop_by_signals

# What `fault_arm` of faults.c takes, beside numbers of errors.
WAYS = {"short": -1, "kill": -2, "kill after": -3}
_DONE, _FAILED, _FOREIGN = 0, 1, 99

_faults = ctypes.CDLL(os.environ["LD_PRELOAD"])


@dataclass
class Ended:
    """How an attempt ended."""

    status: int
    printed: str
    error: str
    n_calls: int

    @property
    def was_killed(self) -> bool:
        """Whether it was; nothing else ends it by a signal."""
        return self.status < 0

    @property
    def lines(self) -> list[str]:
        """What was said on standard error, but for what was logged, and by others."""
        return [line for line in self.error.splitlines() if line.startswith("offsky: ")]


def use(door: str, arguments: Sequence[str]) -> int:
    """Use a door in the current folder; return the exit status."""
    if door == "command":
        try:
            cli.main(list(arguments), prog_name="offsky")
        except SystemExit as end:
            return int(end.code or 0)
        return _DONE
    try:
        _PYTHON[door](*arguments)
    except offsky.OffskyError as error:
        print(f"offsky: {error}", file=sys.stderr)
        return _FAILED
    except OSError as error:
        if door != "step":
            raise
        # jwst opens the members itself, before offsky sees them.
        print(f"offsky: {error}", file=sys.stderr)
        return _FAILED
    return _DONE


def _model(target: str, background: str, average: str, *more: str) -> None:
    overwrite = "--overwrite" in more
    with offsky.subtract(target, [background], combined_path=average, overwrite=overwrite):
        pass


def _average_of_models(*given: str) -> None:
    with offsky.average(list(given)):
        pass


def _step(target: str, background: str) -> None:
    from offsky.step import BackgroundStep

    BackgroundStep.call(target, [background]).close()


_PYTHON: dict[str, Callable[..., None]] = {
    "model": _model,
    "average of models": _average_of_models,
    "step": _step,
}


class Trial:
    """One use of a door, on one set of files.

    Parameters
    ----------
    pristine : Path
        The inputs, and perhaps old products.
    work : Path
        Where copies of them are worked on.
    door, arguments
        As of `use`.
    products : list of str
        What is to be made.
    """

    def __init__(
        self, *, pristine: str, work: str, door: str, arguments: list[str], products: list[str]
    ) -> None:
        self._pristine, self._work = Path(pristine), Path(work)
        self._folder = self._work / "files"
        self._door, self._arguments, self._products = door, arguments, products
        self._old = {
            path.relative_to(pristine): path.read_bytes() for path in _files(self._pristine)
        }
        self._renew()
        ended = self._attempt(0, 0)
        if ended.status:
            raise RuntimeError(ended.error)
        self.n_calls = ended.n_calls
        self._expected = {name: _content(self._folder / name) for name in products}

    def _renew(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self._pristine, self._folder)

    def _attempt(self, at: int, how: int, *more: str) -> Ended:
        """Use the door in a process of its own."""
        for name in ("stdout", "stderr", "n_calls"):
            (self._work / name).write_text("")
        pid = os.fork()
        if pid == 0:
            self._in_child(at, how, [*self._arguments, *more])
        _, status = os.waitpid(pid, 0)
        printed, error, n_calls = (
            (self._work / name).read_text(errors="replace")
            for name in ("stdout", "stderr", "n_calls")
        )
        return Ended(os.waitstatus_to_exitcode(status), printed, error, int(n_calls or 0))

    def _in_child(self, at: int, how: int, arguments: list[str]) -> None:
        status = _FOREIGN
        try:
            for fd, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(self._work / name, os.O_WRONLY), fd)
            os.chdir(self._folder)
            stop_by_signals()
            _faults.fault_arm(at, how)
            status = use(self._door, arguments)
        except BaseException:
            _faults.fault_arm(-1, 0)
            traceback.print_exc()
        finally:
            n_calls = _faults.fault_count()
            _faults.fault_arm(-1, 0)
            (self._work / "n_calls").write_text(str(n_calls))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def fail_calls(self, how: int, every: int) -> tuple[int, list[str]]:
        """Let calls fail, each in turn; return how many did, and what was wrong."""
        wrong: list[str] = []
        n_tried = 0
        # A call that fails may be followed by more of them: the last ones are tried too.
        for at in range(1, self.n_calls + 4, every):
            self._renew()
            ended = self._attempt(at, how)
            n_tried += ended.was_killed or ended.n_calls >= at
            wrong += [f"call {at}: {each}" for each in self._judged(ended)]
        return n_tried, wrong

    def _judged(self, ended: Ended) -> list[str]:
        found = self._inputs_wrong() + self._products_wrong()
        if ended.was_killed:
            return found + self._pairs_wrong() + self._restart_wrong()
        if "Traceback" in ended.error or ended.status not in (_DONE, _FAILED):
            return [*found, f"exit status {ended.status}: {ended.error[-1500:]}"]
        n_most = max(1, len([name for name in self._products if "bsub" in name]))
        told = ended.lines or ("FAILED" in ended.printed and [ended.printed]) or []
        if (ended.status == _FAILED) != bool(told) or len(ended.lines) > n_most:
            found.append(f"exit status {ended.status} and {ended.lines}")
        if ended.status == _DONE and not all(map(self._is_new, self._products)):
            found.append("done, but a product is not there")
        return found + self._left()

    def _inputs_wrong(self) -> list[str]:
        return [
            f"{name} was changed"
            for name, content in self._old.items()
            if str(name) not in self._products
            and (
                not (self._folder / name).exists() or (self._folder / name).read_bytes() != content
            )
        ]

    def _products_wrong(self) -> list[str]:
        """Tell of products that are neither absent, nor old, nor whole."""
        found = []
        for name in self._products:
            path, old = self._folder / name, self._old.get(Path(name))
            if not path.exists():
                if old is not None:
                    found.append(f"{name}: the old one is lost")
            elif path.read_bytes() != old and not self._is_new(name):
                found.append(f"{name}: neither old nor whole")
        return found

    def _is_new(self, name: str) -> bool:
        try:
            return _content(self._folder / name) == self._expected[name]
        except (OSError, ValueError, EOFError):
            return False

    def _pairs_wrong(self) -> list[str]:
        """Tell of a product and an average of two runs that say they are of one."""
        runs: dict[bytes, set[bool]] = {}
        for name in self._products:
            path = self._folder / name
            found = (
                re.search(rb"OFFRUN  = '([^']*)'", path.read_bytes()) if path.exists() else None
            )
            if found is not None:
                runs.setdefault(found[1], set()).add(self._is_new(name))
        return [
            f"old and new products of run {run!r}" for run, new in runs.items() if len(new) > 1
        ]

    def _left(self) -> list[str]:
        return [
            f"left: {path.relative_to(self._folder)}"
            for path in self._folder.rglob("*")
            if ".part" in path.name
        ]

    def _restart_wrong(self) -> list[str]:
        """Tell what is wrong after the same is done again: it finishes, whatever had been done."""
        ended = self._attempt(-1, 0)
        if ended.status == _FAILED and "exists already" in ended.error and self._any_new():
            # Killed after all was done, but for the removal of another name.
            ended = self._attempt(-1, 0, "--overwrite")
        found = [] if ended.status == _DONE else [f"the restart says {ended.error[-800:]}"]
        if not all(map(self._is_new, self._products)):
            found.append(f"after the restart a product is missing: {ended.error[-500:]}")
        return found + self._left()

    def _any_new(self) -> bool:
        return any(map(self._is_new, self._products))


def _content(path: Path) -> bytes:
    """Return what a file holds, but for times and the run's identifier."""
    raw = path.read_bytes()
    if path.suffix == ".gz":
        raw = gzip.decompress(raw)
    if path.suffix == ".json":
        return b"json" if json.loads(raw) else b""
    # Tiles that are zipped tell the second at which they were.
    raw = re.sub(rb"(?s)\x1f\x8b\x08\0.{4}", b"\x1f\x8b\x08", raw)
    raw = re.sub(rb"DATE    = '[^']*'", b"DATE", raw)
    return re.sub(rb"OFFRUN  = '[^']*'", b"OFFRUN", raw)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and ".offsky" not in path.parts]


def main() -> None:
    """Read what to do from the command line."""
    asked: list[dict[str, Any]] = json.loads(sys.argv[1])
    done = []
    for each in asked:
        every, ways = each.pop("every"), each.pop("ways")
        _import_what_it_needs(each)
        gc.freeze()
        trial = Trial(**each)
        counts = {way: trial.fail_calls(WAYS.get(way) or int(way), every) for way in ways}
        done.append(counts)
    print(json.dumps(done))


def _import_what_it_needs(each: dict[str, Any]) -> None:
    """Use the door here, in another folder, so that what it imports is there in every child."""
    folder = Path(each["work"]) / "first"
    shutil.copytree(each["pristine"], folder)
    out, os.environ["COLUMNS"] = os.dup(1), "200"
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.chdir(folder)
    use(each["door"], each["arguments"])
    sys.stdout.flush()
    os.dup2(out, 1)
    os.chdir("/")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
