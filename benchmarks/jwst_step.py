"""Run jwst's BackgroundStep as a process of its own: OUTPUT TARGET BACKGROUND..."""

import sys

from jwst.background import BackgroundStep

step = BackgroundStep()
step.output_file = sys.argv[1]
step.suffix = "bsub"
step.save_results = True
step.run(sys.argv[2], sys.argv[3:])
