"""Families of tokens: integers, categories and letters."""
