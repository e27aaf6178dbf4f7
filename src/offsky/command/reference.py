"""The table of all options in docs/options.md; ``python -m offsky.command.reference`` updates it.

Run it from the folder of the checkout after an option was declared or changed.
"""

from pathlib import Path

from offsky.declared import Declaration, declarations, in_words
from offsky.options import PROFILES, Options

_BEGIN, _END = "<!-- table: options -->\n\n", "\n<!-- end of table -->\n"


def option_table(options_class: type[Options] = Options) -> str:
    """Return the options of a class as a table in Markdown, one a row."""
    heads = ("option", "values", *(f"`{name}`" for name in PROFILES), "keyword", "meaning")
    rows = [
        (
            f"`{each.name}`",
            _values(each),
            *(in_words(each.values[name]) for name in PROFILES),
            f"`{each.keyword}`{' (always)' if each.always else ''}",
            each.help,
        )
        for each in declarations(options_class)
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in (heads, ("---",) * len(heads), *rows))


def _values(declared: Declaration) -> str:
    """Return the values that an option takes, in words."""
    kinds = {"number": "number", "count": "whole number", "flags": "flags", "switch": "yes or no"}
    words = [f"`{word}`" for word in declared.words] + ["none"] * declared.may_be_none
    return ", ".join([kinds[declared.kind], *words] if declared.kind in kinds else words)


def updated(page: str, options_class: type[Options] = Options) -> str:
    """Return a page with the table in place of the one it has."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{option_table(options_class)}{_END}{after}"


if __name__ == "__main__":
    path = Path("docs/options.md")
    path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
