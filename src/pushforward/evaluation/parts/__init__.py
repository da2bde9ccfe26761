"""The parts of an evaluation: each measures some figures on the same rows."""
