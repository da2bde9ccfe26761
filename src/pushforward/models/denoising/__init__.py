"""Families that learn E[x | x_t]: diffusion and flow matching, and the methods of a denoiser."""
