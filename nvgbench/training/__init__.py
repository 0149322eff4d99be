"""Training of tokenizers and generators, with checkpoints, resumption and several processes."""
