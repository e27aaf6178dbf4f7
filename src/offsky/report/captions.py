"""The captions of planes: what good looks like, what bad looks like, and what to do."""

from typing import NamedTuple


class Caption(NamedTuple):
    """What is to be said of one plane."""

    name: str
    label: str
    good: str
    bad: str
    action: str


CAPTIONS = (
    Caption(
        "before",
        "Before",
        "the sky, its gradient and the pattern of the detector, with the sources on top.",
        "sources that are saturated, a shower of cosmic rays, or stripes that are not in the "
        "average.",
        "Blink with After (b): all but sources and noise should vanish.",
    ),
    Caption(
        "after",
        "After",
        "sources on an even ground about 0.",
        "dark images of sources (ghosts), stripes, blotches, a slope, or a ground that is not 0.",
        "Look at the warnings above; they measure each of these.",
    ),
    Caption(
        "average",
        "Average",
        "smooth sky and the pattern of the detector, with less noise than one exposure.",
        "stars or trails that survived the clip: each leaves a hole in After.",
        "Reject more (--profile offsky), mask sources (--mask-sources), or use more backgrounds.",
    ),
    Caption(
        "kept",
        "Samples kept",
        "the number of backgrounds nearly everywhere, one or two less in single pixels.",
        "the shape of a source or whole regions with few samples.",
        "Few samples make the average noisy; none leaves the target as it was.",
    ),
    Caption(
        "flags",
        "Flags",
        "single pixels and columns of the target, few by backgrounds.",
        "regions or sources that are flagged by backgrounds alone.",
        "Use --dq kept, so that flags of rejected samples do not count.",
    ),
)
