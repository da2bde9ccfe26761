"""Models as files: which families there are, their arguments as plain data, and the folder of a run."""
