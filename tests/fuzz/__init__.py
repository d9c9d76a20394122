"""Differential fuzz: random functions and random programs against the reference evaluator."""
