"""Models as files: the registry of families, their arguments as plain data, and the run folder."""
