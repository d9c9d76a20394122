"""The speed table: every step against its peer in one run, on one CPU, equal results checked first.

    python benchmarks/bench.py [--only TEXT] [--rounds N] [--peers PYTHON] [--backend MODULE]

Each figure is the best of many rounds, and the rounds of all sides alternate, so that a ratio
depends little on what else the machine does.  Where a step has several peers, the best of them
counts.  ``--peers`` names the interpreter of an environment that has JAX, onnxruntime, torch and
TensorFlow: the table is then of the steps that are measured against these.  With another
``--backend`` (tensorflow.compat.v1) the same programs run there.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from budgets import Budget, budgets
from contest import ONE_THREAD, Peers
from harness import Result, measure

WORKLOADS = (
    "ahead",
    "axb",
    "conversion",
    "convolution",
    "eight_schools",
    "kernels",
    "layouts",
    "logistic",
    "normalisation",
    "attention",
    "perceptron",
    "streams",
)
HEAD = ("step", "stepforge ns", "peer ns", "ratio", "at most", "")


def pin() -> None:
    """One CPU, and pools of one thread; these are read when libraries load, so start again."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def results(tf: Any, peers: Peers, only: str, rounds: int) -> Iterator[Result]:
    for name in WORKLOADS:
        for row in importlib.import_module(f"workloads.{name}").rows(tf, peers):
            if only in row.step:
                yield measure(row, rounds)


def nanoseconds(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def verdict(holds: bool | None) -> str:
    return {True: "ok", False: "MISS", None: "skipped"}[holds]


def cells(result: Result) -> Iterator[tuple[str, ...]]:
    """A line for each bound of a step."""
    for found in result.verdicts:
        peer, ratio = found.against.missing, ""
        if found.peer is not None:
            peer, ratio = f"{nanoseconds(found.theirs)} ({found.peer})", f"{found.ratio:.3f}"
        at_most, holds = f"{found.against.bound:g}", verdict(found.holds)
        yield result.row.step, nanoseconds(result.ours), peer, ratio, at_most, holds


def print_table(lines: Iterable[tuple[str, ...]]) -> None:
    """A Markdown table with aligned columns; the first line is its head."""
    head, *body = lines
    widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]

    def show(line: Iterable[str]) -> None:
        print("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |")

    show(head)
    print("|" + "|".join("-" * (w + 2) for w in widths) + "|")
    for line in body:
        show(line)


def print_beside(found: list[Result]) -> None:
    """What is timed without a bound, or is not the best of the peers of one."""
    for result in found:
        shown = {verdict.peer for verdict in result.verdicts}
        for label, ns in result.peers.items():
            if label not in shown:
                ratio = result.ours / ns
                print(f"{result.row.step}: {label} {nanoseconds(ns)} ns, ratio {ratio:.3f}")


def print_budgets(found: Iterable[Budget]) -> None:
    for budget in found:
        holds = verdict(budget.milliseconds <= budget.bound)
        bound = f"{budget.bound:.4g} ms"
        print(f"{budget.what}: {budget.milliseconds:.1f} ms, budget {bound}: {holds}")


def machine() -> str:
    """The processor and the versions that the figures depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    parts = [models[0] if models else platform.processor(), f"Python {platform.python_version()}"]
    for package in ("numpy", "numba", "llvmlite", "cffi"):
        found = next(iter(importlib.metadata.distributions(name=package)), None)
        parts.append(f"{package} {found.version}" if found else f"no {package}")
    try:
        version = subprocess.run(
            ["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True
        )
        parts.append(f"gcc {version.stdout.strip()}")
    except (OSError, subprocess.CalledProcessError):
        parts.append("no gcc")
    return ", ".join(parts)


def main() -> int:
    pin()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="stepforge", help="module with the TensorFlow-1 API")
    parser.add_argument("--only", default="", help="only steps whose name contains this")
    parser.add_argument("--peers", default="", help="interpreter that has JAX and the like")
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--processes", type=int, default=5, help="fresh processes per budget")
    options = parser.parse_args()
    tf = importlib.import_module(options.backend)
    print(machine())
    print()
    with closing(Peers(options.peers)) as peers:
        found = list(results(tf, peers, options.only, options.rounds))
    print_table([HEAD, *(line for result in found for line in cells(result))])
    print()
    print_beside(found)
    if options.backend == "stepforge" and not options.only:
        print_budgets(budgets(options.processes, options.peers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
