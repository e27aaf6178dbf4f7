"""Random calls of the kernel from many threads, judged by its twin; run under sanitizers too.

Planes begin at any sample, the threads fill ranges of one result that do not overlap, and there
are as many exposures as there may be.
"""

import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import same_bits

from offsky.kernel.contract import ERROR, MAD, MINMAX, NONE, SIGMA, Averages, Marks, Planes, Rule
from offsky.kernel.twin_average import average as twin

_N_THREADS = 4
_MOST_EXPOSURES = 65_535


def anywhere(array: np.ndarray, chance: random.Random) -> np.ndarray:
    """Return a copy that begins at any sample of a larger one, in any byte order."""
    start = chance.randrange(8)
    larger = np.zeros(array.size + 16, array.dtype.newbyteorder(chance.choice("<>")))
    moved = larger[start : start + array.size]
    moved[:] = array
    return moved


def planes(chance: random.Random, n: int, n_pixels: int) -> Planes:
    rng = np.random.default_rng(chance.getrandbits(32))
    kinds: dict[str, Any] = {}
    sci = rng.normal(10, 1, (n, n_pixels))
    sci[rng.random(sci.shape) < 0.1] += 1e3
    sci[rng.random(sci.shape) < 0.1] = np.nan
    real = chance.choice(("f4", "f8"))
    kinds["sci"] = [anywhere(each.astype(real), chance) for each in sci]
    err = rng.uniform(0.5, 2, sci.shape).astype(real)
    kinds["err"] = [anywhere(each, chance) for each in err]
    if chance.random() < 0.5:
        dq = rng.integers(0, 2**32, sci.shape, dtype="u4")
        kinds["dq"] = [anywhere(each, chance) for each in dq]
    if chance.random() < 0.5:
        kinds["skip"] = list(rng.random(sci.shape) < 0.1)
    return Planes(**kinds)


def rule(chance: random.Random) -> Rule:
    return Rule(
        chance.choice((NONE, SIGMA, ERROR, MAD, MINMAX)), chance.choice((1.5, 3.0)),
        chance.choice((1.5, 3.0)), chance.choice((-1, 0, 1, 5)),
        about_mean=chance.randrange(2), n_extremes=chance.randrange(3),
        min_keep=chance.randrange(3),
    )  # fmt: skip


def results(inputs: Planes, n_pixels: int) -> Averages:
    real = inputs.sci[0].dtype.newbyteorder("=")
    return Averages(
        np.full(n_pixels, 7, real), np.full(n_pixels, 7, real),
        None if inputs.dq is None else np.full(n_pixels, 7, "u4"), np.full(n_pixels, 7, "u2"),
        np.zeros(len(inputs.sci), "i8"), n_masked=np.zeros(len(inputs.sci), "i8"),
    )  # fmt: skip


def call(engine: Any, inputs: Planes, how: Rule, first: int, last: int, out: Averages) -> Any:
    # Of equal exposures; the rejection by ERR asks for them.
    depths = np.ones((2, len(inputs.sci))) if how.method == ERROR else None
    return engine(inputs, None, None, None, None, depths, None, how, first, last, out)


def in_threads(kernel: Any, inputs: Planes, how: Rule, n_pixels: int, cuts: list[int]) -> Averages:
    """Average ranges of pixels at a time; counts have a place for each thread."""
    out = results(inputs, n_pixels)
    own = [results(inputs, 1) for _ in cuts[1:]]

    def work(i: int) -> None:
        counts = {"n_rejected": own[i].n_rejected, "n_masked": own[i].n_masked}
        call(kernel, inputs, how, cuts[i], cuts[i + 1], out._replace(**counts))

    with ThreadPoolExecutor(_N_THREADS) as pool:
        list(pool.map(work, range(len(own))))
    for each in own:
        out.n_rejected[:] += each.n_rejected
        if out.n_masked is not None:
            out.n_masked[:] += each.n_masked
    return out


def compare(kernel: Any, chance: random.Random, n: int, n_pixels: int) -> None:
    inputs, how = planes(chance, n, n_pixels), rule(chance)
    before = [each.tobytes() for each in inputs.sci]
    cuts = sorted({0, n_pixels, *(chance.randrange(n_pixels + 1) for _ in range(6))})
    got = in_threads(kernel, inputs, how, n_pixels, cuts)
    expected = results(inputs, n_pixels)
    call(twin, inputs, how, 0, n_pixels, expected)
    for name in ("sci", "err", "dq", "n_kept", "n_rejected", "n_masked"):
        assert same_bits(getattr(got, name), getattr(expected, name)), (name, how, n, n_pixels)
    assert [each.tobytes() for each in inputs.sci] == before


@pytest.mark.parametrize("seed", range(40))
def test_threads_fill_one_result_from_planes_anywhere(kernel: Any, seed: int) -> None:
    chance = random.Random(seed)
    compare(kernel, chance, chance.choice((1, 2, 3, 7, 12, 33, 100)), chance.randrange(1, 700))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_as_many_exposures_as_there_may_be(kernel: Any, seed: int) -> None:
    compare(kernel, random.Random(seed), _MOST_EXPOSURES, 3)


@pytest.mark.parametrize("seed", range(30))
def test_threads_mark_grow_and_amend_rows_of_one_result(kernel: Any, seed: int) -> None:
    from offsky.kernel import _c, twin_grow

    chance = random.Random(seed)
    n, n_rows, nx = chance.choice((2, 3, 9, 40)), chance.randrange(1, 12), chance.randrange(1, 200)
    inputs = planes(chance, n, n_rows * nx)
    how = Rule(ERROR, 3.5, 2.5, chance.choice((-1, 1)), min_keep=chance.randrange(3))
    above, offset, n_passes = (
        chance.choice((0.0, 1.5)),
        chance.randrange(3),
        chance.randrange(1, 4),
    )
    depths = np.random.default_rng(seed).uniform(0.5, 2, (2, n))
    given = inputs, None, None, None, depths, how, above
    cuts = sorted({0, n_rows, *(chance.randrange(n_rows + 1) for _ in range(4))})
    made = []
    for average, grow in ((kernel, _c.grow), (twin, twin_grow.grow)):
        marks = Marks.empty(n_passes, n, n_rows + offset, nx)._replace(offset=offset)
        # Counts have a place for each thread.
        outs = [results(inputs, n_rows * nx)._replace(marks=marks)]
        outs += [
            outs[0]._replace(n_rejected=np.zeros(n, "i8"), n_masked=np.zeros(n, "i8"))
            for _ in cuts[2:]
        ]

        def first(i: int, average: Any = average, outs: Any = outs) -> None:
            whole = inputs, None, None, None, None, depths, None, how
            average(*whole, cuts[i] * nx, cuts[i + 1] * nx, outs[i])

        def later(i: int, pass_: int, grow: Any = grow, marks: Any = marks) -> None:
            grow(*given, pass_, cuts[i] + marks.offset, cuts[i + 1] + marks.offset, marks)

        def last(i: int, average: Any = average, outs: Any = outs) -> None:
            rows = cuts[i] + offset, cuts[i + 1] + offset
            if average is twin:
                numbers = None, None, None, None, depths
                twin_grow.amend(average_by_twin, inputs, numbers, how, *rows, outs[i])
            else:
                whole = inputs, None, None, None, None, depths, None, how
                _c.amend(*whole, *rows, outs[i])

        with ThreadPoolExecutor(_N_THREADS) as pool:
            list(pool.map(first, range(len(cuts) - 1)))
            for pass_ in range(1, n_passes + 1):
                list(pool.map(later, range(len(cuts) - 1), [pass_] * len(cuts)))
            list(pool.map(last, range(len(cuts) - 1)))
        total = outs[0]._replace(n_rejected=sum(each.n_rejected for each in outs))
        made.append((marks, total))
    (marks, got), (expected_marks, expected) = made
    np.testing.assert_array_equal(marks.bits, expected_marks.bits)
    for name in ("sci", "err", "dq", "n_kept", "n_rejected"):
        assert same_bits(getattr(got, name), getattr(expected, name)), name


def average_by_twin(
    inputs: Planes, numbers: Any, how: Rule, first: int, last: int, out: Averages
) -> tuple[int, int]:
    return twin(inputs, *numbers, None, how, first, last, out)


def test_marks_that_do_not_fit_are_refused(kernel: Any) -> None:
    from offsky.kernel import _c

    inputs = planes(random.Random(1), 3, 20)
    how, marks = Rule(ERROR, 3, 3, -1), Marks.empty(2, 3, 4, 5)
    for wrong in (
        marks._replace(bits=marks.bits[:, :2].copy()),
        marks._replace(bits=np.zeros((3, 3, 4, 2), "u8")),
        marks._replace(bits=marks.bits.astype("u4")),
        marks._replace(bounds=marks.bounds[:3]),
        marks._replace(offset=1),
        marks._replace(offset=-1),
    ):
        with pytest.raises(ValueError, match="marks"):
            call(kernel, inputs, how, 0, 20, results(inputs, 20)._replace(marks=wrong))
    for pass_, first, last in ((0, 0, 1), (3, 0, 1), (1, 3, 2), (1, 0, 5), (1, -1, 2)):
        with pytest.raises(ValueError, match="marks"):
            _c.grow(inputs, None, None, None, None, how, 1.5, pass_, first, last, marks)
    with pytest.raises(ValueError, match="ERR"):
        _c.grow(inputs._replace(err=None), None, None, None, None, how, 1.5, 1, 0, 1, marks)


def test_samples_at_odd_bytes_are_refused(kernel: Any) -> None:
    inputs = planes(random.Random(1), 3, 20)
    odd = np.frombuffer(bytearray(20 * 4 + 1), "<f4", 20, 1)
    with pytest.raises(ValueError, match="not aligned"):
        call(
            kernel,
            inputs._replace(sci=[odd] * 3),
            Rule(NONE, 3, 3, -1),
            0,
            20,
            results(inputs, 20),
        )


# Two threads fill the same range, which nothing in offsky does.
_RACE = """
import sys, threading
sys.path.insert(0, sys.argv[1])
import numpy as np
from test_kernel_stress import NONE, Planes, Rule, call, results
import offsky.kernel._c
from offsky import kernel

n = 200_000
inputs = Planes(sci=[np.ones(n, "f4")] * 9, err=[np.ones(n, "f4")] * 9)
out, begin = results(inputs, n), threading.Barrier(2)

def work():
    own = results(inputs, 1)
    mine = out._replace(n_rejected=own.n_rejected, n_masked=own.n_masked)
    begin.wait()
    for _ in range(20):
        call(kernel.average, inputs, Rule(NONE, 3, 3, -1), 0, n, mine)

threads = [threading.Thread(target=work) for _ in range(2)]
[each.start() for each in threads]
[each.join() for each in threads]
"""


@pytest.mark.skipif(
    not os.environ.get("OFFSKY_SANITIZED", "").endswith("thread"), reason="for .ci/sanitize"
)
def test_a_race_that_is_made_on_purpose_is_reported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _RACE, Path(__file__).parent],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert "WARNING: ThreadSanitizer: data race" in done.stderr, done.stderr[-2000:]
    assert done.returncode == 66


@pytest.mark.skipif("OFFSKY_SANITIZED" not in os.environ, reason="for .ci/sanitize")
def test_it_is_the_sanitized_kernel_that_is_tried() -> None:
    import offsky.kernel._c as built

    assert Path(built.__file__).is_relative_to(os.environ["OFFSKY_SANITIZED"])
