"""From a corpus to training sequences: pieces, infilling, packing, mixture and order, each a function of (seed, n)."""
