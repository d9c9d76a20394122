"""Graphs: nodes, tensors, variables, API functions, and how they become IR."""
