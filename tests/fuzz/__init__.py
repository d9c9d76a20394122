"""A differential fuzzer; ``python -m tests.fuzz --help`` says how to run it, docs/architecture.md
what it compares.
"""
