"""Metrics of mixed rows: numbers, categories and gaps, one number per column, under a ``Domain`` for each column."""
