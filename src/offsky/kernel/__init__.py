"""The averages and their subtraction in C, where offsky was installed with a compiler."""

try:
    from offsky.kernel._c import average, subtract
except ImportError:
    average = subtract = None  # type: ignore[assignment]

__all__ = ["average", "subtract"]
