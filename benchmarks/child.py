"""The process of one peer: answers questions from its standard input until that ends.

    python child.py JAX

A question is a line of JSON.  ``open`` reads the arrays of a case, runs it as often as it says,
writes the results, and answers with a key (or null, where the peer is not installed); ``time``
answers with the nanoseconds of one measurement.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable

import numpy as np

from harness import called


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        peer = importlib.import_module(f"peers.{sys.argv[1].lower()}")
    except ImportError as error:
        print(error, file=sys.stderr)
        peer = None
    measurements: list[Callable[[], float]] = []
    for line in sys.stdin:
        question = json.loads(line)
        answer = None
        if question["do"] == "time":
            answer = measurements[question["key"]]()
        elif peer is not None:
            with np.load(question["inputs"]) as stored:
                arrays = {name: stored[name] for name in stored.files}
            step = peer.step(question["kind"], arrays)
            np.savez(question["outputs"], *step.last(question["calls"]))
            measurements += called(sys.argv[1], step.function, step.arguments).measurements
            answer = len(measurements) - 1
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
