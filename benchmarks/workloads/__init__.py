"""The steps that are timed, one theme to a file.

Each module has ``rows(tf, peers)``, which builds its graphs with the TensorFlow-1 namespace ``tf``,
checks that the results equal the peers', and yields the rows to measure while a session is open.
"""
