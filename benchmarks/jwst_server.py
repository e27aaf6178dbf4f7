"""Be the warm process that runs jwst's BackgroundStep again and again.

Reads lines of JSON, [output or null, target, [background, ...]]; answers each with the seconds.
"""

import json
import logging
import os
import sys
import time

os.environ["STPIPE_DISABLE_CRDS_STEPPARS"] = "true"
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the step prints is no answer

from jwst.background import BackgroundStep  # noqa: E402

logging.disable(logging.CRITICAL)
print("ready", file=answers, flush=True)
for line in sys.stdin:
    output, target, backgrounds = json.loads(line)
    start = time.perf_counter()
    result = BackgroundStep.call(target, backgrounds)
    if output is not None:
        result.save(output)
    result.close()
    print(time.perf_counter() - start, file=answers, flush=True)
