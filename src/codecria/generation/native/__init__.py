"""The step in C: the sources, how they are built and loaded, and a model's pass over a few tokens with them."""
