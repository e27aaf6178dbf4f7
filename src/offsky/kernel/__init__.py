"""The averages and their subtraction in C, where offsky was installed with a compiler."""

try:
    from offsky.kernel._c import amend, average, grow, subtract
except ImportError:
    amend = average = grow = subtract = None  # type: ignore[assignment]

__all__ = ["amend", "average", "grow", "subtract"]
