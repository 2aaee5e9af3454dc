"""Instruction data by execution feedback: questions, tests and the first solution that passed them (paper §2.5)."""
