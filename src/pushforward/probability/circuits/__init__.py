"""Laws of mixed rows: averages of hidden Chow-Liu trees, and EM that finds them."""
