"""Which backgrounds may be used with a target, told from headers alone."""
