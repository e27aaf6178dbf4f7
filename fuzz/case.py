"""A case: a few small files, and how offsky is called with them. It can be kept as JSON."""

import base64
import json
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """What is tried.

    Attributes
    ----------
    door : str
        "file", "average", "association", "programme", "plan" or "call".
    files : dict
        The files of the case's folder by name, folders before a "/".
    call : dict
        What the door is given, as JSON can hold it.
    made : str
        How it was made.
    """

    door: str
    files: dict[str, bytes]
    call: dict[str, Any] = field(default_factory=dict)
    made: str = ""

    def write(self, folder: Path) -> None:
        """Write the files."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def save(case: Case, path: Path, failure: str) -> Path:
    """Keep a case, with what was wrong and the command that repeats it."""
    kept = asdict(case)
    kept["files"] = {
        name: base64.b85encode(zlib.compress(content, 9)).decode()
        for name, content in case.files.items()
    }
    text = {"failure": failure, "repeat": f"python -m fuzz --repeat {path}", **kept}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    return path


def load(path: Path) -> Case:
    """Read a case that was kept."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    files = {
        name: zlib.decompress(base64.b85decode(content)) for name, content in kept["files"].items()
    }
    return Case(kept["door"], files, kept["call"], kept["made"])
