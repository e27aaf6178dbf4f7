"""Fixtures: exposures on disk, kernel and twin, and a check that nothing is leaked."""

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster import Cluster
from doors import DOORS, Door
from hypothesis import HealthCheck, settings

from offsky import kernel as c_kernel
from offsky.combine import blocks, planes
from offsky.io import fits_copy
from offsky.kernel import twin_average
from offsky.testing import encoded_pixels, write_exposure

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

# Time limits say nothing on a shared machine; the fixtures hold no state between examples.
settings.register_profile(
    "offsky",
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    # As many as the default where all is tried, the same ones each time.
    max_examples=100 if os.environ.get("CI") else 40,
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("offsky")


def _open_files() -> dict[str, str]:
    """Return the open file descriptors and what they are."""
    files = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            files[entry.name] = str(entry.readlink())
        except FileNotFoundError:  # that of the listing itself
            continue
    return files


@pytest.fixture(autouse=True)
def nothing_is_leaked() -> Iterator[None]:
    """Fail a test that leaves a file descriptor or a thread behind."""
    if not sys.platform.startswith("linux"):
        yield
        return
    files, threads = _open_files(), set(threading.enumerate())
    yield
    for attempt in range(20):
        left = {fd: name for fd, name in _open_files().items() if files.get(fd) != name}
        running = set(threading.enumerate()) - threads
        if not left and not running:
            return
        if attempt == 0:
            # A cycle may hold a file of astropy's for a while; that is not a leak.
            gc.collect()
        time.sleep(0.01)
    pytest.fail(f"left open: {left or 'no file'}; left running: {running or 'no thread'}")


@pytest.fixture(autouse=True)
def signals_are_as_before() -> Iterator[None]:
    """Put back what the command line does to signals that stop it."""
    before = {
        each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.fixture(autouse=True)
def small_images_take_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work on the small images of tests as on large ones: on threads, flushed early."""
    monkeypatch.setattr(blocks, "_TINY_BYTES", 0)
    monkeypatch.setattr(fits_copy, "_LEAST_FLUSH", 0)
    monkeypatch.setattr("offsky.engine.make._LARGE", 0)


def require_kernel() -> Callable[..., tuple[int, int]]:
    """Return the compiled kernel; skip without one, or fail where it must be there."""
    if c_kernel.average is not None:
        return c_kernel.average
    reason = "the C kernel is not compiled (installed without a compiler?)"
    if os.environ.get("OFFSKY_REQUIRE_KERNEL") == "1":
        pytest.fail(reason)
    return pytest.skip(reason)


@pytest.fixture
def kernel() -> Callable[..., tuple[int, int]]:
    """The compiled kernel."""
    return require_kernel()


@pytest.fixture(params=["kernel", "twin"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Kernel and twin in turn; the whole package uses it meanwhile."""
    if request.param == "kernel":
        chosen = require_kernel()
    else:
        chosen = twin_average.average
        monkeypatch.setattr(c_kernel, "average", None)
        monkeypatch.setattr(c_kernel, "subtract", None)
    planes._engine.cache_clear()
    yield chosen
    planes._engine.cache_clear()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real exposures, beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real exposures: {SHARED_DATA} is not there")
    return SHARED_DATA


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, also the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def noisy() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Make SCI, ERR and DQ whose values tell the place, with noise, outliers and NaN."""

    def make(
        exposure: int, nints: int | None = None, ny: int = 37, nx: int = 23
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng([exposure, nints or 0, ny, nx])
        place = encoded_pixels(0, None, ny, nx)
        shape = (ny, nx) if nints is None else (nints, ny, nx)
        sci = (place + rng.normal(0.0, 1.0, shape)).astype(np.float32)
        sci[rng.random(shape) < 0.03] += 1000.0
        sci[rng.random(shape) < 0.05] = np.nan
        sci[rng.random(shape) < 0.01] = np.inf
        err = rng.uniform(0.5, 2.0, shape).astype(np.float32)
        err[rng.random(shape) < 0.05] = np.nan
        dq = np.where(rng.random(shape) < 0.1, 2 ** rng.integers(0, 32, shape), 0)
        # Dead everywhere: no sample in any exposure, at a place that only it has.
        sci[..., ny // 3, nx // 4] = np.nan
        return sci, err, dq.astype(np.uint32)

    return make


@pytest.fixture
def exposures(tmp_path: Path, noisy: Any) -> Callable[..., tuple[Path, list[Path]]]:
    """Write a target and backgrounds; the arguments after it are their numbers of integrations."""

    def make(
        target: int | None = None,
        backgrounds: tuple[int | None, ...] = (None, None, None),
        *,
        ny: int = 37,
        nx: int = 23,
        **how: Any,
    ) -> tuple[Path, list[Path]]:
        inputs = tmp_path / "inputs"
        inputs.mkdir(exist_ok=True)
        paths = []
        for i, nints in enumerate((target, *backgrounds)):
            name = "target" if i == 0 else f"background{i}"
            sci, err, dq = noisy(i, nints, ny, nx)
            path = inputs / f"{name}_{'rate' if nints is None else 'rateints'}.fits"
            paths.append(write_exposure(path, sci=sci, err=err, dq=dq, **how))
        return paths[0], paths[1:]

    return make


@pytest.fixture(scope="session")
def cluster_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """The address of a Dask cluster with one worker, started when first asked for."""
    with ExitStack() as stack:
        clusters: list[Cluster] = []

        def start() -> str:
            if not clusters:
                clusters.append(Cluster(tmp_path_factory.mktemp("dask"), stack))
                clusters[0].add_worker()
            return clusters[0].address

        yield start


@pytest.fixture(
    params=[
        pytest.param(door.name, marks=[pytest.mark.slow] if door.slow else [])
        for door in DOORS.values()
    ]
)
def door(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    cluster_address: Callable[[], str],
) -> Iterator[Door]:
    """Every public way to make products, in turn; those that start processes are slow."""
    chosen = DOORS[request.param]
    for package in chosen.needs:
        pytest.importorskip(package, reason=f"{package} is not installed: offsky[{package}]")
    with ExitStack() as stack:
        chosen.enter(
            stack,
            monkeypatch=monkeypatch,
            crds_path=tmp_path_factory.getbasetemp() / "crds",
            cluster_address=cluster_address,
        )
        yield chosen
