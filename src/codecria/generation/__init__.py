"""Texts from a model: sampling, the key-value cache, batches of sequences, and the model as a person uses it."""
