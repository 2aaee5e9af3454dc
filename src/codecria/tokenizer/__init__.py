"""Text to token ids and back, for every checkpoint: one class, special tokens kept apart from text."""
