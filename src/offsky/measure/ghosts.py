"""Look for dark images of a target's sources, where backgrounds show the same sources."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array, Mask

_N_RANDOM = 120
_LEAST_PIXELS = 5
_MOST_SOURCES = 400
_MOST_PIXELS = 20_000


@dataclass(frozen=True, slots=True)
class Ghost:
    """How much of the target's light a product lacks at one offset.

    Attributes
    ----------
    amplitude : float
        Share of the light; below 0 for a dark image.
    scatter : float
        Of the same at random offsets.
    n_sources : int
        Sources that it was told from.
    """

    amplitude: float
    scatter: float
    n_sources: int

    @property
    def significance(self) -> float:
        """The amplitude in units of its scatter."""
        return self.amplitude / self.scatter if self.scatter > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """Pixels of the target's sources: places, light, and its second differences."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    light: Array
    bend_x: Array
    bend_y: Array
    mask: Mask
    n_sources: int


def find_templates(image: Array, noise: float) -> Templates:
    """Find the sources of an image: connected pixels, without cosmic rays.

    Parameters
    ----------
    image : ndarray
        A product, NaN where a pixel does not count.
    noise : float
        Scatter of a pixel.

    Notes
    -----
    A pixel counts if it is five times the noise, and the median of the nine about it three
    times: that of a track one or two pixels wide is not.
    """
    with np.errstate(invalid="ignore"):
        bright = image > 5 * noise
    bright[[0, -1]] = False
    bright[:, [0, -1]] = False
    row, column = np.nonzero(bright)
    if row.size:
        about = np.stack([image[row + dy, column + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
        about[~np.isfinite(about)] = 0
        wide = np.median(about, axis=0) > 3 * noise
        row, column = row[wide], column[wide]
    mask = np.zeros(image.shape, dtype=np.bool_)
    mask[row, column] = True
    label, size = _connected(row, column, image.shape)
    kept = size[label] >= _LEAST_PIXELS if row.size else np.zeros(0, dtype=np.bool_)
    row, column, label = row[kept], column[kept], label[kept]
    light = image[row, column]
    if row.size:
        # The brightest sources tell most.
        total = np.zeros(size.size)
        np.add.at(total, label, light)
        order = np.argsort(total)[::-1][:_MOST_SOURCES]
        kept = np.isin(label, order)
        row, column, light, label = row[kept], column[kept], light[kept], label[kept]
        if row.size > _MOST_PIXELS:
            some = np.sort(np.argsort(light)[::-1][:_MOST_PIXELS])
            row, column, light, label = row[some], column[some], light[some], label[some]
    bends = []
    for dy, dx in ((0, 1), (1, 0)):
        bend = image[row + dy, column + dx] + image[row - dy, column - dx] - 2 * light
        bends.append(np.where(np.isfinite(bend), bend, np.float32(0)))
    n_sources = int(np.unique(label).size)
    return Templates(row, column, light, bends[0], bends[1], mask, n_sources)


def _connected(
    row: NDArray[np.intp], column: NDArray[np.intp], shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the group of each pixel, and the size of each group; neighbours touch by sides."""
    n = row.size
    parent = np.arange(n)
    place = np.full(shape, -1, dtype=np.int32)
    place[row, column] = np.arange(n)
    # Every pixel takes the smallest number among its neighbours' until none changes.
    right = place[row, np.minimum(column + 1, shape[1] - 1)] if n else parent
    below = place[np.minimum(row + 1, shape[0] - 1), column] if n else parent
    pairs = [(np.flatnonzero((to >= 0) & (to != np.arange(n))), to) for to in (right, below)]
    ends = [(a, to[a]) for a, to in pairs]
    while True:
        before = parent.copy()
        for a, b in ends:
            low = np.minimum(parent[a], parent[b])
            np.minimum.at(parent, a, low)
            np.minimum.at(parent, b, low)
        parent = parent[parent]
        if np.array_equal(parent, before):
            break
    _, label = np.unique(parent, return_inverse=True)
    return label, np.bincount(label, minlength=1) if n else np.zeros(1, dtype=np.intp)


def measure_ghost(
    image: Array, templates: Templates, offset: tuple[float, float], noise: float
) -> Ghost | None:
    """Measure how much of the sources' light is missing at an offset.

    Parameters
    ----------
    image : ndarray
        The product, NaN where a pixel does not count.
    templates : Templates
        Its sources.
    offset : tuple of float
        Columns and rows from a source to its ghost.
    noise : float
        Scatter of a pixel.

    Returns
    -------
    Ghost or None
        None where no source falls within the image, so that there can be no ghost.
    """
    amplitude = _amplitude(image, templates, offset)
    if amplitude is None:
        return None
    rng = np.random.default_rng(101)
    reach = min(60.0, min(image.shape) / 4)
    if reach < 8:
        return None
    found = []
    for _ in range(_N_RANDOM):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(6, reach)
        shift = offset[0] + radius * np.cos(angle), offset[1] + radius * np.sin(angle)
        if np.hypot(*shift) < 6:
            continue
        elsewhere = _amplitude(image, templates, shift)
        if elsewhere is not None:
            found.append(elsewhere)
    if len(found) < 20:
        return None
    middle = float(np.median(found))
    scatter = 1.4826 * float(np.median(np.abs(np.array(found) - middle)))
    return Ghost(amplitude - middle, max(scatter, 1e-6), templates.n_sources)


def _amplitude(image: Array, templates: Templates, offset: tuple[float, float]) -> float | None:
    """Return the weighted median of the image over the light of shifted sources."""
    x, y = templates.columns + offset[0], templates.rows + offset[1]
    column, row = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    inside = (column >= 0) & (row >= 0) & (column < image.shape[1] - 1)
    inside &= row < image.shape[0] - 1
    if np.count_nonzero(inside) < _LEAST_PIXELS:
        return None
    column, row, light = column[inside], row[inside], templates.light[inside]
    fx, fy = (x[inside] - column).astype(np.float32), (y[inside] - row).astype(np.float32)
    value = np.zeros(column.size, dtype=np.float32)
    blocked = np.zeros(column.size, dtype=np.bool_)
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            value += image[row + dy, column + dx] * wy * wx
            blocked |= templates.mask[row + dy, column + dx]
    good = np.isfinite(value) & ~blocked
    if np.count_nonzero(good) < _LEAST_PIXELS:
        return None
    # To read between pixels blurs, and a point source is but two or three of them wide.
    blurred = light + 0.5 * (fx * (1 - fx) * templates.bend_x[inside])
    blurred += 0.5 * (fy * (1 - fy) * templates.bend_y[inside])
    blurred = np.maximum(blurred, 0.4 * light)
    ratio, weight = value[good] / blurred[good], light[good]
    order = np.argsort(ratio)
    total = np.cumsum(weight[order])
    return float(ratio[order][np.searchsorted(total, total[-1] / 2)])
