"""``python -m offsky`` is the command ``offsky``."""

from offsky.cli import main

if __name__ == "__main__":
    main()
