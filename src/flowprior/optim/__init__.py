"""Batched optimisers over many small problems at once: every row is its own problem."""
