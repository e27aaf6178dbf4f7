"""A paragraph of methods with citations, to be copied into a paper."""

from offsky.report.summary import Summary

_WORKS = (
    (
        "jwst",
        "Bushouse et al., JWST Calibration Pipeline, doi:10.5281/zenodo.6984365",
        """@software{jwst,
  author = {Bushouse, Howard and others},
  title = {JWST Calibration Pipeline},
  publisher = {Zenodo},
  doi = {10.5281/zenodo.6984365}
}""",
    ),
    (
        "astropy",
        "Astropy Collaboration, 2022, ApJ, 935, 167",
        """@article{astropy,
  author = {{Astropy Collaboration}},
  title = {The Astropy Project: Sustaining and Growing a Community-oriented Open-source Project},
  journal = {ApJ},
  year = 2022,
  volume = 935,
  eid = {167},
  doi = {10.3847/1538-4357/ac7c74}
}""",
    ),
    (
        "numpy",
        "Harris et al., 2020, Nature, 585, 357",
        """@article{numpy,
  author = {Harris, Charles R. and others},
  title = {Array programming with NumPy},
  journal = {Nature},
  year = 2020,
  volume = 585,
  pages = {357--362},
  doi = {10.1038/s41586-020-2649-2}
}""",
    ),
)


def _sentences(summary: Summary) -> list[str]:
    facts = summary.facts
    options = {name: value for name, value, _ in summary.parameters}
    n = len(facts.used)
    version = dict(summary.versions).get("offsky", "")
    if facts.subtraction != "offsky" or not n:
        return ["No background was subtracted by offsky."]
    how = {
        "sigma": "standard deviations from their median",
        "error": "median errors from their median",
        "mad": "scaled median absolute deviations from their median",
    }.get(options.get("reject", "sigma"))
    exposures = "1 background exposure" if n == 1 else f"{n} background exposures"
    found = [f"The average of {exposures} was subtracted with offsky {version}".rstrip() + "."]
    if how is not None and n > 1:
        found.append(
            f"Samples more than {options.get('sigma', '3')} {how} were rejected pixel by pixel."
        )
    if options.get("level", "none") != "none":
        found.append(f"The levels of the exposures were matched first (by {options['level']}).")
    if facts.target.imprint == "COMPLETE":
        found.append("The imprint (leakage through closed shutters) was subtracted first.")
    if facts.errors == "propagate":
        found.append("The error of the average was propagated to the errors of the target.")
    else:
        found.append("The errors of the target do not include that of the average.")
    return found


def plain(summary: Summary) -> str:
    """Return the paragraph as plain text, with its references below."""
    cited = "; ".join(reference for _, reference, _ in _WORKS)
    return " ".join(_sentences(summary)) + f" It builds on the work of {cited}."


def latex(summary: Summary) -> str:
    """Return the paragraph as LaTeX."""
    text = " ".join(_sentences(summary))
    for each in "%_&#":
        text = text.replace(each, f"\\{each}")
    keys = ",".join(key for key, _, _ in _WORKS)
    return f"{text} It builds on \\citep{{{keys}}}."


def bibtex() -> str:
    """Return the works cited, as BibTeX."""
    return "\n".join(entry for _, _, entry in _WORKS)
