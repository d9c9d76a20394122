"""What one compile is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepforge.codegen.jit import Level
from stepforge.codegen.signature import Structure
from stepforge.frontend.extract.program import Extraction
from stepforge.ir.records import record
from stepforge.runtime.variables import VariableStore


@record(frozen=True)
class Job:
    """The extracted function, the session's variables, and how the result is built."""

    extraction: Extraction
    store: VariableStore
    name: str
    structure: Structure
    level: Level
    nodes: Sequence[Any] = ()
