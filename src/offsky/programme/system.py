"""What this machine has to offer."""

import os
from pathlib import Path


def available_bytes() -> int | None:
    """Return the memory that this process may still take; None where it is not known.

    The least of what the machine has available and what is left of the limit that a
    batch system has set (control groups).
    """
    found = [each for each in (_machine(), _control_group()) if each is not None]
    return min(found, default=None)


def _machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        # Not Linux: half of all there is, as a guess.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError):
        return None


def _control_group() -> int | None:
    try:
        entry = Path("/proc/self/cgroup").read_text().splitlines()[0]
        folder = Path("/sys/fs/cgroup") / entry.rpartition("::")[2].lstrip("/")
        limits = [
            int(limit) - int((each / "memory.current").read_text())
            for each in (folder, *folder.parents)
            if (each / "memory.max").exists()
            and (limit := (each / "memory.max").read_text().strip()) != "max"
        ]
    except (OSError, ValueError, IndexError):
        return None
    return max(0, min(limits)) if limits else None
