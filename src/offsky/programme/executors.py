"""Who does the work: this process, processes on this machine, or a Dask cluster.

An executor takes groups of products and yields what came of each product. Pixels are
read and written by the workers alone.
"""

import logging
import multiprocessing
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait as wait_for_sentinels
from typing import Any

from offsky.combine.planes import count_threads
from offsky.errors import ParameterError
from offsky.product_outcome import ProductOutcome
from offsky.programme.job import (
    GroupJob,
    GroupReport,
    Room,
    failed,
    make_group,
    make_group_report,
    without_room,
)
from offsky.stopping import repeat_lost_stops

log = logging.getLogger(__name__)

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# A worker that was asked to end is not asked again so soon.
_PATIENCE_S = 1.5
_asked_s = -_PATIENCE_S

# A group during which so many workers died is given up.
_MOST_DEATHS = 3


class SerialExecutor:
    """One group after the other, in this process, on several threads.

    Parameters
    ----------
    threads : int or None
        None for one a core.
    """

    n_workers = 1
    is_here = True

    def __init__(self, threads: int | None = None) -> None:
        self.threads = count_threads(threads)

    def run(self, jobs: Sequence[GroupJob]) -> Iterator[ProductOutcome]:
        """Make all groups."""
        room = Room()
        for job in jobs:
            yield from make_group(job, room=room)


class ProcessExecutor:
    """Several groups at a time, each in a process of its own on this machine.

    Parameters
    ----------
    n_workers : int
        Processes.
    threads : int or None
        Threads for each; None for an even share of the cores.

    Raises
    ------
    ParameterError
        For fewer than one worker.
    """

    is_here = True

    def __init__(self, n_workers: int, threads: int | None = None) -> None:
        if n_workers < 1:
            raise ParameterError(f"workers is {n_workers}: give one or more")
        self.n_workers = n_workers
        self.threads = (
            max(1, count_threads(None) // n_workers) if threads is None else count_threads(threads)
        )

    def run(self, jobs: Sequence[GroupJob]) -> Iterator[ProductOutcome]:
        """Make all groups; those of a worker that dies are tried again by another."""
        waiting = deque(jobs)
        deaths: dict[int, int] = {}
        while waiting:
            # After a death it is not known whose fault it was: suspects run alone.
            suspects = [job for job in waiting if id(job) in deaths]
            if suspects:
                waiting.remove(suspects[0])
                lost = yield from self._run_in_pool(deque(suspects[:1]), 1)
            else:
                lost = yield from self._run_in_pool(waiting, self.n_workers)
            for job in lost:
                deaths[id(job)] = deaths.get(id(job), 0) + 1
                if deaths[id(job)] < _MOST_DEATHS:
                    log.warning("a worker died; its products are tried again")
                    waiting.append(job)
                    continue
                for product in job.products:
                    yield failed(
                        product,
                        f"{product.output}: {_MOST_DEATHS} workers died making it or its group; "
                        "out of memory? Use fewer workers, or less --memory",
                    )

    def _run_in_pool(
        self, jobs: deque[GroupJob], n_workers: int
    ) -> "Any":  # a generator: yields outcomes, returns the groups that were lost
        running: dict[Future[GroupReport], GroupJob] = {}
        is_full = False
        pool: ProcessPoolExecutor | None = None
        _start_tracker()
        try:
            with _no_signals():
                pool = ProcessPoolExecutor(
                    n_workers,
                    # Not fork: threads are running here.
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=_begin_worker,
                    initargs=(logging.getLogger().getEffectiveLevel(),),
                )
            while jobs or running:
                # No more than are worked on: so that few are lost with a worker.
                while jobs and len(running) < n_workers:
                    job = jobs.popleft()
                    try:
                        with _no_signals():
                            running[pool.submit(make_group_report, job)] = job
                    except BrokenProcessPool:
                        return [job, *running.values()]
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        report = future.result()
                        outcomes = _told(report)
                        is_full |= report.is_full
                    except (BrokenProcessPool, SystemExit):
                        return list(running.values())
                    except Exception as error:
                        outcomes = [failed(p, error) for p in running[future].products]
                    del running[future]
                    yield from outcomes
                while is_full and jobs:
                    yield from without_room(jobs.popleft())
            return []
        except BaseException:
            # Ctrl-C, or a batch system: let the workers tidy up, as we do.
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)


def _start_tracker() -> None:
    """Start Python's own helper of processes, which would let signals through while it starts.

    It ignores those of a terminal, but not that one goes away.
    """
    try:
        handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    except ValueError:  # not in the main thread
        resource_tracker.ensure_running()
        return
    try:
        resource_tracker.ensure_running()
    finally:
        signal.signal(signal.SIGHUP, handler)


@contextmanager
def _no_signals() -> Iterator[None]:
    """Hold signals back while a process is started, and let it begin with none.

    Otherwise Ctrl-C, which a terminal sends to all, would come upon a worker that has not yet
    said how it ends, or leave it without what it is to be told.
    """
    caught: list[int] = []
    handlers: dict[signal.Signals, Any] = {}
    # Another thread may take a signal that this one blocks; its handler runs here then.
    with suppress(ValueError):
        for each in _STOPPING:
            if signal.getsignal(each) != signal.SIG_IGN:
                handlers[each] = signal.signal(each, lambda signum, _: caught.append(signum))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for each, handler in handlers.items():
            signal.signal(each, handler)
        if caught:
            signal.raise_signal(caught[0])


def _told(report: GroupReport) -> list[ProductOutcome]:
    """Log a worker's warnings here, and return its outcomes."""
    for warning in report.warnings:
        log.warning("%s", warning)
    return report.outcomes


def _begin_worker(log_level: int) -> None:
    """Make a worker process end as tidily as its parent, and not outlive it."""
    # Its warnings come back with the outcomes, to be logged once.
    logging.basicConfig(level=log_level, handlers=[logging.NullHandler()])
    for each in _STOPPING:
        signal.signal(each, _end_quietly)
    repeat_lost_stops(_forget_asking)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("a worker without a parent")

    main = threading.get_ident()

    def watch() -> None:
        wait_for_sentinels([parent.sentinel])
        # The first ends a group at work; the next the wait for work that never comes.
        while True:
            signal.pthread_kill(main, signal.SIGTERM)
            time.sleep(2.0)

    threading.Thread(target=watch, daemon=True).start()


def _end_quietly(*_: object) -> None:
    """End a worker without a word, but through every "finally".

    A terminal and the parent may both ask: the second is not to come upon the tidying up.
    """
    global _asked_s
    now, last = time.monotonic(), _asked_s
    if now - last < _PATIENCE_S:
        return
    _asked_s = now
    # Between the opening of a file and what sees to its closing there is an instant.
    warnings.simplefilter("ignore", ResourceWarning)
    sys.exit(1)


def _forget_asking() -> None:
    """Take the next signal for the first: the one before was lost."""
    global _asked_s
    _asked_s = time.monotonic() - _PATIENCE_S


class DaskExecutor:
    """Groups sent to a running Dask cluster, whose workers share the file system.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``tcp://10.0.0.1:8786``.
    threads : int or None
        Threads for each group; None for 1, since a worker of several threads takes as
        many groups at a time.

    Raises
    ------
    ParameterError
        If `dask.distributed` is not installed or there is no scheduler.
    """

    is_here = False

    def __init__(self, address: str, threads: int | None = None) -> None:
        self.threads = 1 if threads is None else count_threads(threads)
        try:
            import distributed
        except ImportError as error:
            raise ParameterError(
                "dask.distributed is not installed; install offsky[dask] to use a cluster"
            ) from error
        try:
            self._distributed: Any = distributed  # it has no types
            # Of an address that is none a client never ends: it says so after half a minute.
            self._distributed.comm.get_address_host_port(address)
            self._client = self._distributed.Client(address, set_as_default=False, timeout=15)
        except (OSError, ValueError) as error:
            raise ParameterError(
                f"{address}: no Dask scheduler answers ({error}); start one, or check the address"
            ) from error
        n_threads = sum(self._client.nthreads().values())
        if not n_threads:
            log.warning("the cluster at %s has no workers yet; waiting for some", address)
        self.n_workers = max(1, n_threads)

    def run(self, jobs: Sequence[GroupJob]) -> Iterator[ProductOutcome]:
        """Make all groups; Dask gives those of a worker that dies to another."""
        futures = {
            self._client.submit(make_group_report, job, pure=False, retries=1): job for job in jobs
        }
        try:
            finished = self._distributed.as_completed(list(futures), loop=self._client.loop)
            for future in finished:
                if future not in futures:
                    continue
                job = futures[future]
                try:
                    report = future.result()
                    outcomes = _told(report)
                    if report.is_full:
                        yield from self._without_room(futures)
                except Exception as error:
                    # KilledWorker, or something that did not come through the network.
                    reason = (
                        f"the cluster gave it up ({type(error).__name__}: {error}); "
                        "look at the workers' logs"
                    )
                    outcomes = [failed(p, f"{p.output}: {reason}") for p in job.products]
                del futures[future]
                future.release()
                yield from outcomes
        finally:
            self._client.cancel(list(futures))

    def _without_room(self, futures: "dict[Any, GroupJob]") -> Iterator[ProductOutcome]:
        """Call back groups that have not begun, since the disk is full."""
        waiting = [each for each in futures if each.status == "pending"]
        self._client.cancel(waiting)
        for future in waiting:
            yield from without_room(futures.pop(future))

    def close(self) -> None:
        """Leave the cluster; it goes on without us."""
        self._client.close()
