"""GPU nodes: who may use them, and how much of them."""
