"""Names of functions that say which of the user's operations they are for.

Profilers, debuggers and whoever reads assembly see ``kernel_y_tanh_mul_nest2``: the result of the
nest first, then what it is made of. The name is part of the module's text, and thereby of its key
on disk: programs that differ in names only have objects of their own.
"""

from __future__ import annotations

import re

from stepforge.ir.core import Operation

LONGEST_RESULT = 24  # characters of the result's path, from its end
LONGEST = 48  # characters of a label
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9]+")
# As it stands in LLVM and assembler text. Two underlines in a row would be Ada's to gdb.
SYMBOL = re.compile(r"\bkernel_(\w+)_nest\d+(?:_run|_job)?\b")


def kernel_label(op: Operation) -> str:
    """What the function of a nest is called, before its number: letters, digits and ``_``."""
    inner = [op, *(each for region in op.regions for each in region.walk())]
    nodes = list(dict.fromkeys(each.site.node for each in reversed(inner) if each.site))
    if not nodes:
        return "step"
    result = _plain(nodes[0])[-LONGEST_RESULT:]
    parts = dict.fromkeys([result, *(_plain(node.rpartition("/")[2]) for node in nodes[1:])])
    return "_".join(filter(None, parts))[:LONGEST].strip("_") or "step"


def _plain(name: str) -> str:
    return _NOT_PLAIN.sub("_", name).strip("_")
