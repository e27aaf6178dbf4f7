"""Windows of detector pixels: where exposures lie, where they overlap."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of detector pixels, 0-based, ends excluded.

    Attributes
    ----------
    x0, y0 : int
        First column and row.
    nx, ny : int
        Columns and rows.
    """

    x0: int
    y0: int
    nx: int
    ny: int

    def overlap(self, other: "Window") -> "Window | None":
        """Return what two windows have in common, None for nothing.

        Examples
        --------
        >>> Window(0, 0, 4, 4).overlap(Window(3, 2, 4, 4))
        Window(x0=3, y0=2, nx=1, ny=2)
        """
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        nx = min(self.x0 + self.nx, other.x0 + other.nx) - x0
        ny = min(self.y0 + self.ny, other.y0 + other.ny) - y0
        return Window(x0, y0, nx, ny) if nx > 0 and ny > 0 else None

    def slices_within(self, outer: "Window") -> tuple[slice, slice]:
        """Return the rows and columns of `outer` that this window is."""
        y, x = self.y0 - outer.y0, self.x0 - outer.x0
        return slice(y, y + self.ny), slice(x, x + self.nx)

    def __str__(self) -> str:
        """Return the window as headers write it: 1-based, ends included."""
        return f"x {self.x0 + 1}-{self.x0 + self.nx}, y {self.y0 + 1}-{self.y0 + self.ny}"
