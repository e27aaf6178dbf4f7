"""An ERR that cannot serve is told as plainly as a missing one."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain import expose

import offsky


def _made(folder: Path, err: Any, caplog: pytest.LogCaptureFixture, **options: Any) -> list[str]:
    target = expose(folder / "t_rate.fits", 10, shape=(40, 8))
    backgrounds = [expose(folder / f"b{i}_rate.fits", 3, err=err, shape=(40, 8)) for i in range(4)]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        offsky.subtract_file(target, backgrounds, folder / "out.fits", overwrite=True, **options)
    return [line for line in caplog.messages if "ERR is zero" in line]


MOSTLY_ZERO = np.zeros((40, 8))
MOSTLY_ZERO[:, 0] = 0.1
FEW_ZERO = np.full((40, 8), 0.1)
FEW_ZERO[:, 0] = 0


@pytest.mark.parametrize("err", [0.0, np.nan, -1.0, np.inf, MOSTLY_ZERO])
@pytest.mark.parametrize(
    "options", [{"reject": "error"}, {"weight": "variance"}, {"profile": "offsky"}]
)
def test_an_err_of_no_use_is_told_for_each_background(
    folder: Path, caplog: pytest.LogCaptureFixture, err: Any, options: Any
) -> None:
    said = _made(folder, err, caplog, **options)
    assert len(said) == 4
    assert "b0_rate.fits" in said[0]
    assert "use reject = mad" in said[0]


@pytest.mark.parametrize(
    ("err", "options"),
    [(0.1, {"reject": "error"}), (FEW_ZERO, {"reject": "error"}), (0.0, {}), (np.nan, {})],
)
def test_an_err_that_serves_or_is_not_needed_is_not_told(
    folder: Path, caplog: pytest.LogCaptureFixture, err: Any, options: Any
) -> None:
    assert not _made(folder, err, caplog, **options)
