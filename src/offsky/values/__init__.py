"""Values: what exposures, masks, windows and averages are, without any algorithm."""
