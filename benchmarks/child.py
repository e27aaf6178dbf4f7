"""Run a command as the child of this small process; print its wall time and peak memory.

Linux counts the memory of a process that starts a program into that program's peak: the
benchmarks, which hold large arrays, must not start themselves what they measure.
"""

import json
import os
import sys
import time

log, *command = sys.argv[1:]
output_to_log = [
    (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
    (os.POSIX_SPAWN_DUP2, 1, 2),
]
start = time.perf_counter()
pid = os.posix_spawnp(command[0], command, os.environ, file_actions=output_to_log)
_, status, usage = os.wait4(pid, 0)
wall_s = time.perf_counter() - start
peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
exit_code = os.waitstatus_to_exitcode(status)
print(json.dumps({"exit_code": exit_code, "wall_s": wall_s, "peak_mb": peak_bytes / 1e6}))
