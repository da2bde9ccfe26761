"""The HTML report of an evaluation: its words, its plots and its page."""
