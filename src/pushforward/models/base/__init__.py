"""The contract that all families share; no file here knows a family."""
