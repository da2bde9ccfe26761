"""Motion in time: ordinary and stochastic differential equations, and Langevin chains."""
