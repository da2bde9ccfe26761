"""Families that learn E[x | x_t]: diffusion and flow matching, and all that a denoiser can do."""
