"""The Llama transformer: configuration, rotary positions, attention, blocks, and a loss that never holds the logits."""
