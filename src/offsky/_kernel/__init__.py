"""The clipped mean in C, where a compiler was there when offsky was installed."""

try:
    from offsky._kernel._clip_mean import clip_mean
except ImportError:
    clip_mean = None  # type: ignore[assignment]

__all__ = ["clip_mean"]
