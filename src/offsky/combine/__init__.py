"""Averages of rows of exposures: pure arithmetic on arrays."""
