"""Families with a law in closed form: PPCA and Gaussian mixtures."""
