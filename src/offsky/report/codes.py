"""What each code of a check means: the paragraphs of docs/checks.md, for pages offline."""

from functools import cache

from offsky.report.markup import resource


@cache
def paragraphs() -> tuple[tuple[str, str, str], ...]:
    """Return code, title and text of each paragraph."""
    found = []
    for part in resource("codes.txt").split("\n\n"):
        head, _, text = part.strip().partition("\n")
        code, _, title = head.partition(": ")
        found.append((code, title, " ".join(text.split())))
    return tuple(found)
