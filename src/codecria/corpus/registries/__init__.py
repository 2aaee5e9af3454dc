"""Package registries, each asked through the machine's own client: pip, npm, apt."""
