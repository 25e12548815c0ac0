"""Real inputs: which files, and how they become tensors."""
