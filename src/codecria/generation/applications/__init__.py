"""What the paper shows infilling to be good for: docstrings, types, and lines that make a failing test pass."""
