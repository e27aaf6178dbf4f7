"""The average in C, where a compiler was there when offsky was installed."""

try:
    from offsky._kernel import _clip_mean
except ImportError:
    average = clip_mean = None
else:
    clip_mean = _clip_mean.clip_mean
    average = getattr(_clip_mean, "average", None)

__all__ = ["average", "clip_mean"]
