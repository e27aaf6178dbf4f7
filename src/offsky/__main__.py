"""``python -m offsky`` is the command ``offsky``."""

from offsky.command.main import main

if __name__ == "__main__":
    main()
