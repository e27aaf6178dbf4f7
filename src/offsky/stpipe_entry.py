"""What offsky tells stpipe of itself; imports nothing, since stpipe asks at every start."""


def get_steps() -> list[tuple[str, str | None, bool]]:
    """Name offsky's step for stpipe (entry point ``stpipe.steps``).

    Returns
    -------
    list of tuple (str, str or None, bool)
        Class name, alias and whether it is a pipeline. No alias: two steps called
        ``bkg_subtract`` would make ``strun bkg_subtract`` ambiguous, an error.
    """
    return [("offsky.step.BackgroundStep", None, False)]
