"""Files in, files out: nothing else in offsky touches the disk."""
