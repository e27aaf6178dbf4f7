"""Where the rows of an exposure lie in a frame, and images made of them."""

from offsky.combine.images import Cut, Image, absent_image, make_image
from offsky.options import Options
from offsky.values.exposure import Exposure, Scratch, Wanted
from offsky.values.mask import PackedMask
from offsky.values.window import Window


def columns_of(window: Window, frame: Window) -> tuple[slice, slice] | None:
    """Return the columns of an exposure that a frame has, and where they lie in it."""
    overlap = window.overlap(frame)
    if overlap is None:
        return None
    return overlap.slices_within(window)[1], overlap.slices_within(frame)[1]


def image_of(
    exposure: Exposure,
    window: Window,
    frame: Window,
    frame_rows: tuple[int, int],
    scratch: Scratch,
    options: Options,
    mask: PackedMask | None,
) -> Image:
    """Read some rows of a frame of an exposure, and make an image of them."""
    begin, end = frame_rows
    shift = frame.y0 - window.y0
    first, last = max(0, begin + shift), min(exposure.shape[-2], end + shift)
    columns = columns_of(window, frame)
    if first >= last or columns is None:
        return absent_image((end - begin, frame.nx))
    rows = exposure.read_rows(first, last, scratch, Wanted())
    cut = cut_of(window, frame, (begin, end), (first, last))
    skip = None if mask is None else mask.rows(first, last)
    return make_image(rows, options, cut=cut, skip=skip)


def cut_of(
    window: Window, frame: Window, frame_rows: tuple[int, int], own_rows: tuple[int, int]
) -> Cut | None:
    """Return which part of rows that were read of an exposure lies in rows of a frame.

    Parameters
    ----------
    window, frame : Window
        Where the exposure and the frame lie; they overlap.
    frame_rows : tuple of int
        Rows [begin, end) of the frame.
    own_rows : tuple of int
        Rows [first, last) of the exposure that were read, some of them in the frame's.

    Returns
    -------
    Cut or None
        None where they are the same.
    """
    if window == frame and frame_rows == own_rows:
        return None
    columns = columns_of(window, frame)
    if columns is None:
        raise ValueError("an exposure that does not overlap the frame")
    (begin, end), shift = frame_rows, frame.y0 - window.y0
    first, last = max(own_rows[0], begin + shift), min(own_rows[1], end + shift)
    return Cut(
        (end - begin, frame.nx),
        slice(first - own_rows[0], last - own_rows[0]),
        columns[0],
        slice(first - shift - begin, last - shift - begin),
        columns[1],
    )
