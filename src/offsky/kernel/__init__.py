"""The averages and their subtraction in C, where offsky was installed with a compiler."""

try:
    from offsky.kernel._c import average, clip_mean, subtract
except ImportError:
    average = clip_mean = subtract = None  # type: ignore[assignment]

__all__ = ["average", "clip_mean", "subtract"]
