"""The contract that all families share; no file here depends on a family."""
