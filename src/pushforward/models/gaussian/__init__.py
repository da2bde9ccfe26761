"""Families with a closed-form law: PPCA and Gaussian mixtures."""
