"""Texts that a terminal shows and does not obey."""


def one_line(text: str) -> str:
    r"""Return a text as one line, its control characters as escapes.

    Names of files may hold anything: a line break, what moves the cursor or clears the screen,
    bytes that are no text.

    Examples
    --------
    >>> print(one_line("a\x1b[2Jb\nc"))
    a\x1b[2Jb\nc
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )
