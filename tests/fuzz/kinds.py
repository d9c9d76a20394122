"""The kinds of what is fuzzed, each with a strategy and a check, run alike by tests and by hand."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fuzz.ahead import check_ahead
from fuzz.checks import check_loops, check_native, check_passes, reproducer
from fuzz.functions import functions
from fuzz.hostile import File, check_file
from fuzz.hostile_files import spoiled_files
from fuzz.hostile_graphs import made_up_graphs
from fuzz.play import check_gradients, check_program
from fuzz.programs import Program
from fuzz.sessions import programs, smooth_programs
from fuzz.shared import Finding


@dataclass(frozen=True)
class Kind:
    """Something that is made at random and must satisfy a check."""

    name: str
    strategy: st.SearchStrategy[Any]
    check: Callable[[Any], Any]
    show: Callable[[Any], str]  # as Python
    examples: int  # of one round: a few seconds


def several(cases: Any) -> str:
    return "\n\n".join(map(reproducer, cases))


KINDS = (
    Kind("passes", functions(), check_passes, reproducer, 100),
    Kind("loops", functions(), check_loops, reproducer, 60),
    Kind("native", st.lists(functions(), min_size=1, max_size=8), check_native, several, 10),
    Kind("ahead", st.lists(functions(), min_size=1, max_size=4), check_ahead, several, 10),
    Kind("programs", programs(), check_program, Program.text, 20),
    Kind("gradients", smooth_programs(), check_gradients, Program.text, 20),
    Kind("files", spoiled_files(), check_file, File.text, 100),
    Kind("nodes", made_up_graphs(), check_file, File.text, 100),
)


def play(kind: Kind, number: int, examples: int, *, small: bool = True) -> Finding | None:
    """Check so many examples, made from the seed ``number``; what is found, ``small`` where that is
    asked.
    """
    phases = (Phase.generate, Phase.shrink) if small else (Phase.generate,)

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.strategy)
    def run(example: Any) -> None:
        try:
            kind.check(example)
        except Finding:
            raise
        except Exception as error:
            raised = "".join(traceback.format_exception(error))
            raise Finding(f"{raised}\n{kind.show(example)}") from error

    try:
        run()
    except Finding as finding:
        return finding
    return None
