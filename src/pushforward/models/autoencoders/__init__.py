"""Autoencoders: families with an encoder from rows to codes and a decoder back."""
