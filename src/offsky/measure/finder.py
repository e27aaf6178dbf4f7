"""Find sources in an image with sep, SExtractor as a library (``offsky[sources]``)."""

from threading import Lock

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array
from offsky.errors import ParameterError

# A source has this many adjacent pixels above the threshold once smoothed by the kernel,
# the shape of a star: single hits of cosmic rays are left to the rejection.
_LEAST_PIXELS = 5
_THRESHOLD = 2.5
_KERNEL = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=np.float32)
# Cosmic rays are a pixel wide, stars and galaxies are not: of a source at least this share of
# the light is in blocks of 2 x 2 pixels, each of them above this share of the brightest pixel
# around. Other sources are left to the rejection, whose cost is the hit alone; a mask grown
# about each took 8 % of the pixels where 1 % were hit (decision 0026).
_WIDE_SHARE, _OF_BRIGHTEST = 0.5, 0.15
_LIT = 1.0
_AROUND = 2
# Hits that touch each other, or a star, are taken apart.
_DEBLEND = 0.005
# What is larger than this is sky, not source.
_SKY_PIXELS = 128
# sep keeps its limits in variables shared by all threads. Its buffer of pixels above the
# threshold takes longer to clear than most images to be searched: it begins small.
_LOCK = Lock()
_BUFFER_PIXELS = 2**18


def have_finder() -> bool:
    """Tell whether sources can be found."""
    try:
        import sep  # noqa: F401
    except ImportError:
        return False
    return True


def require_finder() -> None:
    """Raise ParameterError unless sources can be found."""
    if not have_finder():
        raise ParameterError(
            "mask_sources needs the package sep, which is not installed: "
            "pip install 'offsky[sources]', or give masks of your own (--mask)"
        )


def find_in_image(image: Array, noise: Array, bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell the pixels of sources.

    Parameters
    ----------
    image, noise : ndarray of float32, (ny, nx)
        Finite everywhere.
    bad : ndarray of bool
        True at pixels that are not to be looked at.

    Returns
    -------
    ndarray of bool
        True at pixels of a source.
    """
    import sep

    image, noise = np.ascontiguousarray(image), np.ascontiguousarray(noise)
    size = min(_SKY_PIXELS, *image.shape)
    with _LOCK:
        sky = sep.Background(image, mask=bad, bw=size, bh=size)
        image = image - sky.back(dtype=np.float32)
        n_buffer = _BUFFER_PIXELS
        while True:
            sep.set_extract_pixstack(n_buffer)
            try:
                _, segments = sep.extract(
                    image,
                    _THRESHOLD,
                    err=noise,
                    mask=bad,
                    minarea=_LEAST_PIXELS,
                    filter_kernel=_KERNEL,
                    filter_type="matched",
                    deblend_cont=_DEBLEND,
                    clean=False,
                    segmentation_map=True,
                )
                break
            except Exception as error:  # sep raises no class of its own
                if "buffer full" not in str(error) or n_buffer > 4 * image.size:
                    raise
                n_buffer *= 4
    image /= noise
    image[bad] = 0
    return np.asarray(_wide(image, segments)[segments])


def _wide(image: Array, segments: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Tell which segments are wider than the track of a cosmic ray; the first, 0, is none.

    Parameters
    ----------
    image : ndarray of float32, (ny, nx)
        In units of its noise.
    segments : ndarray of int32
        The number of each pixel's segment, 0 for none.
    """
    lit = (image > _LIT) & (image > _OF_BRIGHTEST * _brightest_around(image))
    blocks = lit[1:, 1:] & lit[1:, :-1] & lit[:-1, 1:] & lit[:-1, :-1]
    in_block = np.zeros(image.shape, dtype=np.bool_)
    for part in (np.s_[1:, 1:], np.s_[1:, :-1], np.s_[:-1, 1:], np.s_[:-1, :-1]):
        in_block[part] |= blocks
    inside = lit & (segments > 0)
    numbers, light = segments[inside], image[inside]
    n_segments = int(segments.max()) + 1
    whole = np.bincount(numbers, light, n_segments)
    wide = np.bincount(numbers, light * in_block[inside], n_segments)
    return np.asarray((wide >= _WIDE_SHARE * whole) & (whole > 0))


def _brightest_around(image: Array) -> Array:
    """Return the largest value within `_AROUND` rows and columns of each pixel."""
    for axis in (0, 1):
        lines = np.moveaxis(image, axis, 0)
        most = lines.copy()
        for k in range(1, _AROUND + 1):
            np.maximum(most[k:], lines[:-k], out=most[k:])
            np.maximum(most[:-k], lines[k:], out=most[:-k])
        image = np.moveaxis(most, 0, axis)
    return image
