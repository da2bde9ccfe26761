"""Families for tokens: integers, categories and letters."""
