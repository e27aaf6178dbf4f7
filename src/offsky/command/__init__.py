"""The command ``offsky``: what people type and read."""
