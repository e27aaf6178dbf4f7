"""Programmes on a real Dask cluster, its scheduler and workers in processes of their own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cluster import Cluster, process, wait_for
from programmes import content, expose, leftovers, offsky_command

pytest.importorskip("distributed", reason="dask.distributed is not installed: offsky[dask]")
pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster without workers yet."""
    folder = tmp_path / "dask"
    folder.mkdir()
    with ExitStack() as stack:
        yield Cluster(folder, stack)


@pytest.fixture(scope="module")
def programme(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Patterns, a shared background, a broken file; and what is made of them undisturbed."""
    folder = tmp_path_factory.mktemp("programme")
    inputs = folder / "inputs"
    inputs.mkdir()
    for observation in range(6):
        for i in range(1, 6):
            expose(inputs, i, observation=f"{observation + 1:03d}", shape=(300, 300))
    whole = folder / "whole"
    done = offsky_command("run", inputs, "--from", "dithers", "-o", whole)
    assert done.returncode == 0, done.stderr
    return inputs, whole


def assert_same(out: Path, whole: Path) -> None:
    products = sorted(whole.glob("*.fits"))
    assert len(products) == 30
    for product in products:
        assert content(out / product.name) == content(product), product.name
    assert leftovers(out) == []


def test_a_cluster_gives_the_same_bytes(
    programme: tuple[Path, Path], cluster: Cluster, tmp_path: Path
) -> None:
    inputs, whole = programme
    for _ in range(2):
        cluster.add_worker()
    out = tmp_path / "out"
    done = offsky_command("run", inputs, "--from", "dithers", "-o", out, "--dask", cluster.address)
    assert done.returncode == 0, done.stderr
    assert_same(out, whole)
    again = offsky_command(
        "run", inputs, "--from", "dithers", "-o", out, "--dask", cluster.address, "--json"
    )
    assert json.loads(again.stdout)["n_made"] == 0


def test_a_worker_that_dies_is_survived(
    programme: tuple[Path, Path], cluster: Cluster, tmp_path: Path
) -> None:
    inputs, whole = programme
    for _ in range(2):
        cluster.add_worker()
    out = tmp_path / "out"
    with process(
        tmp_path / "run.log", "-m", "offsky", "run", inputs, "--from", "dithers", "-o", out,
        "--dask", cluster.address,
    ) as running:  # fmt: skip
        wait_for(lambda: list(out.glob("[!.]*.fits")))
        cluster.workers[0].kill()
        assert running.wait(120) == 0, (tmp_path / "run.log").read_text()
    assert_same(out, whole)


def test_a_run_whose_client_is_killed_is_taken_up_again(
    programme: tuple[Path, Path], cluster: Cluster, tmp_path: Path
) -> None:
    inputs, whole = programme
    cluster.add_worker()
    out = tmp_path / "out"
    with process(
        tmp_path / "run.log", "-m", "offsky", "run", inputs, "--from", "dithers", "-o", out,
        "--dask", cluster.address,
    ) as running:  # fmt: skip
        wait_for(lambda: list(out.glob("[!.]*.fits")))
        running.kill()
    done = offsky_command("run", inputs, "--from", "dithers", "-o", out, "--dask", cluster.address)
    assert done.returncode == 0, done.stderr
    assert_same(out, whole)


def test_a_product_that_fails_on_the_cluster_fails_alone(cluster: Cluster, folder: Path) -> None:
    for observation in ("001", "002"):
        for i in (1, 2):
            expose(folder, i, observation=observation)
    assert offsky_command("plan", ".", "--from", "dithers", "-o", "plan.json").returncode == 0
    broken = next(folder.glob("jw01234002*"))
    broken.write_bytes(broken.read_bytes()[:-4000])
    cluster.add_worker()
    done = offsky_command("run", "plan.json", "-o", "out", "--dask", cluster.address)
    assert done.returncode == 1
    assert "2 complete, 0 skipped, 2 failed" in done.stdout
    assert broken.name in done.stderr


LOCAL_CLUSTER = """
import sys
from pathlib import Path

def main():
    from distributed import LocalCluster
    from offsky.programme.executors import DaskExecutor
    from offsky.options import Options
    from offsky.selection.pairing import Pairing
    from offsky.programme.planning import make_plan
    from offsky.programme.run import run_programme

    inputs, out = map(Path, sys.argv[1:])
    plan = make_plan([inputs], pairing=Pairing(source="dithers"), options=Options())
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1",
        dashboard_address=None,
    ) as cluster:
        executor = DaskExecutor(cluster.scheduler_address)
        summary = run_programme(plan, out, executor=executor)
        executor.close()
    assert summary.count("COMPLETE") == 30, summary

if __name__ == "__main__":
    main()
"""


def test_a_local_cluster_of_processes_gives_the_same_bytes(
    programme: tuple[Path, Path], tmp_path: Path
) -> None:
    inputs, whole = programme
    script = tmp_path / "script.py"
    script.write_text(LOCAL_CLUSTER)
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, str(script), str(inputs), str(out)],
        capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_same(out, whole)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "local", "no://127.0.0.1:9"])
def test_a_scheduler_that_is_not_there_is_said_so(folder: Path, address: str) -> None:
    for i in (1, 2):
        expose(folder, i)
    done = offsky_command("run", ".", "--from", "dithers", "-o", "out", "--dask", address)
    assert done.returncode == 1
    assert "no Dask scheduler answers" in done.stderr
    assert "Traceback" not in done.stderr
