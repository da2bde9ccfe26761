"""The parts of an evaluation: each takes some figures from the same rows."""
