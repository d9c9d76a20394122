"""The steps that are timed, one theme to a file.

Each module has ``rows(tf)``, which builds its graph with the TensorFlow-1 namespace ``tf``, checks
that the results equal the peer's, and yields the rows to measure while its session is open.
"""
