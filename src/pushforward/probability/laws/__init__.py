"""What is known exactly: Gaussians, their mixtures, finite laws, Markov chains, densities up to a factor."""
