"""The intermediate representation: types, values, ops, text, and the reference evaluator."""

import time

LOADED = time.time_ns()  # this file is among the first: what is written later is not what runs
