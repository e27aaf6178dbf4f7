"""Each system call fails in turn, does half of its work, or is the last one before a kill.

``python -m pytest -m slow -s tests/test_system_calls.py`` tries all of them and tells how many
there are; other runs of the tests try a few. Calls inside the C library, such as those of
``fwrite``, are not reached.
"""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from cluster import Cluster
from plain import expose, pixels, product, write_association

from offsky.testing import write_exposure

HERE = Path(__file__).parent
ERRORS = [str(errno.EIO), str(errno.ENOSPC), str(errno.EINTR), "short"]
KILLS = ["kill", "kill after"]
ONE = ("--threads", "1")

USES: dict[str, tuple[str, list[str], list[str]]] = {
    "subtract": (
        "command", ["subtract", "a1_rate.fits", "a2_rate.fits", "-o", "r.fits", *ONE], ["r.fits"],
    ),
    "over an old pair": (
        "command",
        [
            "subtract", "a1_rate.fits", "a2_rate.fits", "-o", "old.fits", "--overwrite",
            "--save-combined", *ONE,
        ],
        ["old.fits", "a1_combinedbackground.fits"],
    ),
    "a pair": (
        "command",
        ["subtract", "a1_rate.fits", "a3_rate.fits", "-o", "r.fits.gz", "--save-combined",
         "--overwrite", *ONE],
        ["r.fits.gz", "a1_combinedbackground.fits"],
    ),
    "written again": (
        "command", ["subtract", "tiled_rate.fits", "a2_rate.fits", "-o", "r.fits", *ONE],
        ["r.fits"],
    ),
    "average": (
        "command", ["average", "a1_rate.fits", "a2_rate.fits", "-o", "r.fits", *ONE], ["r.fits"],
    ),
    "association": (
        "command", ["subtract", "x_asn.json", *ONE], ["p1_bsub.fits", "p2_bsub.fits"],
    ),
    "programme": (
        "command", ["run", "x_asn.json", "-o", "out", *ONE],
        ["out/p1_bsub.fits", "out/p2_bsub.fits"],
    ),
    "programme with averages": (
        "command", ["run", "x_asn.json", "-o", "out", "--save-combined", *ONE],
        [f"out/p{i}_{kind}.fits" for i in (1, 2) for kind in ("bsub", "combinedbackground")],
    ),
    "plan": ("command", ["plan", "x_asn.json", "-o", "plan.json"], ["plan.json"]),
    "model": ("model", ["a1_rate.fits", "a2_rate.fits", "c.fits"], ["c.fits"]),
    "average of models": ("average of models", ["a1_rate.fits", "a2_rate.fits"], []),
    # What is saved of a step is written by stpipe.
    "step": ("step", ["a1_rate.fits", "a2_rate.fits"], []),
}  # fmt: skip
# Every so many calls, in a run of the tests without the slow ones.
FEW = {"subtract": 4, "over an old pair": 9, "association": 11, "programme": 17, "model": 13}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calls that fail on demand."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler, on Linux")
    path = tmp_path_factory.mktemp("faults") / "libfaults.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", path, HERE / "faults.c", "-ldl"], check=True
    )
    return path


@pytest.fixture
def pristine(tmp_path: Path) -> Path:
    """Inputs, and an old product with its average."""
    folder = tmp_path / "pristine"
    folder.mkdir()
    for i in range(1, 4):
        write_exposure(
            folder / f"a{i}_rate.fits",
            sci=np.full((6, 8), i, dtype=np.float32),
            metadata={"meta.observation.exposure_number": str(i)},
        )
    with fits.open(folder / "a3_rate.fits", memmap=False) as hdus:
        hdus["SCI"] = fits.CompImageHDU(
            np.full((6, 8), 3, "f4"), hdus["SCI"].header, compression_type="GZIP_1"
        )
        hdus.writeto(folder / "tiled_rate.fits")
    for name in ("old.fits", "a1_combinedbackground.fits"):
        (folder / name).write_bytes(b"made earlier")
    write_association(
        folder / "x_asn.json", *(product(f"p{i}", f"a{i}_rate", "a3_rate") for i in (1, 2))
    )
    return folder


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: a flush to a disk takes most of an attempt."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    folder = shared / f"offsky-{os.getpid()}-{tmp_path.name}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def try_all(
    library: Path, pristine: Path, folder: Path, use: str, ways: list[str], every: int = 1
) -> dict[str, Any]:
    """Let calls fail in ways, return the counts; nothing may be wrong with any."""
    door, arguments, products = USES[use]
    asked = {
        "pristine": str(pristine), "work": str(folder), "door": door, "arguments": arguments,
        "products": products, "ways": ways, "every": every,
    }  # fmt: skip
    environment = {
        **os.environ, "LD_PRELOAD": str(library), "FAULT_FOLDER": f"{folder}/files",
        "CRDS_PATH": str(pristine), "STPIPE_DISABLE_CRDS_STEPPARS": "true",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, HERE / "fault_driver.py", json.dumps([asked])], env=environment,
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = json.loads(done.stdout)
    wrong = [f"{way}: {each}" for way, (_, told) in found.items() for each in told]
    assert wrong == [], "\n".join(wrong[:10])
    return {way: n_calls for way, (n_calls, _) in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("use", FEW)
def test_a_call_that_fails_keeps_the_old_product_and_leaves_nothing(
    library: Path, pristine: Path, in_memory: Path, use: str
) -> None:
    counts = try_all(library, pristine, in_memory, use, ["5", "short", "kill"], FEW[use])
    # Two headers, their pixels and one file are more than a few calls.
    assert min(counts.values()) > 2


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
def test_whichever_call_fails_the_old_product_is_kept_and_nothing_left(
    library: Path, pristine: Path, in_memory: Path, use: str
) -> None:
    counts = try_all(library, pristine, in_memory, use, ERRORS)
    print(f"{use}: {counts}")
    assert min(counts.values()) > 5


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
def test_killed_at_whichever_call_the_same_again_finishes(
    library: Path, pristine: Path, in_memory: Path, use: str
) -> None:
    counts = try_all(library, pristine, in_memory, use, KILLS)
    print(f"{use}: {counts}")
    assert min(counts.values()) > 5


@pytest.fixture(params=["workers", "dask"])
def apart(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """How a programme is run by other processes."""
    if request.param == "workers":
        yield ["--workers", "2"]
        return
    pytest.importorskip("distributed")
    with ExitStack() as stack:
        cluster = Cluster(tmp_path, stack)
        for _ in range(2):
            cluster.add_worker()
        yield ["--dask", cluster.address]


@pytest.mark.slow
def test_workers_killed_at_any_moment_the_same_again_finishes(
    pristine: Path, in_memory: Path, apart: list[str]
) -> None:
    names = [f"p{i}" for i in range(6)]
    for i, name in enumerate(names):
        # Different backgrounds: groups for each worker.
        expose(pristine / f"b{i}_rate.fits", 2.0 + i)
        expose(pristine / f"c{i}_rate.fits")
        write_association(pristine / f"{name}_asn.json", product(name, f"b{i}_rate", f"c{i}_rate"))
    chance = random.Random(14)
    began, n_killed = time.monotonic(), 0
    subprocess.run(_run_of(pristine, in_memory / "first", *apart), capture_output=True, check=True)
    seconds = time.monotonic() - began
    for i in range(int(os.environ.get("OFFSKY_KILLS", "6"))):
        out = in_memory / f"{i}"
        n_killed += _killed(_run_of(pristine, out, *apart), chance.uniform(0.2, 0.7) * seconds)
        assert _whole(out, names) == sorted(out.glob("*.fits"))
        again = subprocess.run(
            _run_of(pristine, out, *apart), capture_output=True, text=True, check=False
        )
        assert again.returncode == 0, again.stderr
        assert len(_whole(out, names)) == len(names)
        assert [path for path in out.rglob("*") if ".part" in path.name] == []
    print(f"{apart}: {n_killed} kills")
    assert n_killed > 0


def _run_of(pristine: Path, out: Path, *apart: str) -> list[Any]:
    command = [sys.executable, "-m", "offsky", "run", *sorted(pristine.glob("p?_asn.json"))]
    return [*command, "-o", out, *apart]


def _killed(command: list[Any], seconds: float) -> bool:
    """Kill a run and its processes after a time; tell whether it was still at work."""
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _whole(out: Path, names: list[str]) -> list[Path]:
    """Return the products that have the pixels that they should have."""
    found = []
    for i, name in enumerate(names):
        path = out / f"{name}_bsub.fits"
        if path.exists() and (pixels(path) == 1.0 + i).all():
            found.append(path)
    return found
