"""Run jwst's own unit tests of its background step with offsky's step in its place.

    python tests/jwst_own/run.py [modules and pytest options]

Without a module, all of ``jwst.background.tests.test_background``; nothing in it needs
reference files, so nothing is left out. Its neighbours ``test_background_soss`` and
``test_background_wfss`` test what offsky hands to jwst unchanged, and need a CRDS server
or cache; where there is one, name them.
"""

import sys

import jwst.background
import pytest

from offsky.step import BackgroundStep

DEFAULT = "jwst.background.tests.test_background"


def main(arguments: list[str]) -> int:
    """Run the tests; 0 where all passed and met offsky's step."""
    modules = [each for each in arguments if each.startswith("jwst.")] or [DEFAULT]
    options = [each for each in arguments if each not in modules]
    jwst.background.BackgroundStep = BackgroundStep
    # Not our settings: theirs is a test suite that does not turn warnings into errors.
    status = pytest.main(
        ["-c", "/dev/null", "-p", "no:cacheprovider", "-ra", *options, "--pyargs", *modules]
    )
    for name in modules:
        if getattr(sys.modules.get(name), "BackgroundStep", None) is not BackgroundStep:
            print(f"{name}: did not use offsky's step", file=sys.stderr)
            return 1
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
