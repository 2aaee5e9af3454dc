"""Training one stage: a checkpoint folder in, a checkpoint folder out; stopped and resumed to the same numbers."""
