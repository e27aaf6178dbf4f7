"""The averages in C, where a compiler was there when offsky was installed."""

try:
    from offsky._kernel._clip_mean import average, clip_mean
except ImportError:
    average = clip_mean = None  # type: ignore[assignment]

__all__ = ["average", "clip_mean"]
