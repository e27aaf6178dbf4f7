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
                    deblend_cont=1.0,  # a star on a galaxy is masked with it
                    clean=False,
                    segmentation_map=True,
                )
                return np.asarray(segments > 0)
            except Exception as error:  # sep raises no class of its own
                if "buffer full" not in str(error) or n_buffer > 4 * image.size:
                    raise
                n_buffer *= 4
