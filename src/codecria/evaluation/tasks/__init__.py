"""The tasks: HumanEval, single-line infilling, held-out perplexity."""
