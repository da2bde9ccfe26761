"""Parameters from draws: maximum likelihood, EM, classifiers."""
