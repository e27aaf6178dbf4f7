"""Reports: values of one product or of a run, and pages that show them. Knows no files."""
