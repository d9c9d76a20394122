"""Fuzzes for a while: ``python -m tests.fuzz --minutes 10 --seed 1``.

Rounds of all kinds follow each other, each with a seed of its own, so that a round can be repeated
alone. What is found is made small and printed with what shows it again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest does

from fuzz.kinds import KINDS, Kind, play


def main() -> int:
    """Play rounds until the time is over; 1 where something was found."""
    options = arguments()
    kinds = [kind for kind in KINDS if kind.name in options.kinds]
    end = time.monotonic() + 60 * options.minutes
    examples = dict.fromkeys(options.kinds, 0)
    findings = 0
    for number in itertools.count(options.seed):
        for kind in kinds:
            findings += fuzz(kind, number)
            examples[kind.name] += kind.examples
            if time.monotonic() > end:
                counts = ", ".join(f"{count} {name}" for name, count in examples.items())
                print(f"{findings} findings in {counts}")
                return int(findings > 0)
        print(f"seed {number} done", flush=True)
    raise AssertionError("unreachable")


def fuzz(kind: Kind, number: int) -> int:
    """One round of a kind; prints what it finds and returns how many that is."""
    finding = play(kind, number, kind.examples)
    if finding is None:
        return 0
    print(f"---- found by --kinds {kind.name} --seed {number}\n{finding}\n----", flush=True)
    return 1


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    names = [kind.name for kind in KINDS]
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, at least one round")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first round")
    parser.add_argument("--kinds", nargs="+", choices=names, default=names, help="only these")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
