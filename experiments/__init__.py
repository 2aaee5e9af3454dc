"""Claims of the papers, each tried at a small scale: `python -m experiments NAME`."""
