"""Names of functions that say which of the user's operations they are for.

Profilers, debuggers and whoever reads assembly see ``kernel_y_tanh_mul_nest2``: the result of the
nest first, then what it is made of; of a product with an epilogue ``tiles_f32_00101_h_relu_MatMul``
and a hash, of a convolution ``conv_f32_h_relu_Conv2D`` and one. The name is part of the module's
text, and thereby of its key on disk: programs that differ in names only have objects of their own.
"""

from __future__ import annotations

import re

from stepforge.ir.core import Operation

LONGEST_RESULT = 24  # characters of the result's path
LONGEST = 48  # characters of a label
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9]+")
# As it stands in LLVM and assembler text. Two underlines in a row would be Ada's to gdb.
SYMBOL = re.compile(
    r"\bkernel_(?P<nest>\w+)_nest\d+(?:_job)?\b"
    r"|\b[a-z]+_b?f\d\d_(?:[01]+_)?(?P<product>\w+)_[0-9a-f]{12}(?:_job)?\b"
)


def kernel_label(op: Operation) -> str:
    """What the function of an operation with regions is called: letters, digits and ``_``."""
    inner = [op, *(each for region in op.regions for each in region.walk())]
    nodes = list(dict.fromkeys(each.site.node for each in reversed(inner) if each.site))
    if not nodes:
        return "step"
    parts = dict.fromkeys([_end(nodes[0]), *(_plain(n.rpartition("/")[2]) for n in nodes[1:])])
    return "_".join(filter(None, parts))[:LONGEST].strip("_") or "step"


def _end(path: str) -> str:
    """As many scopes of a name, from its end, as there is room for; at least the last."""
    *scopes, label = [plain for plain in map(_plain, path.split("/")) if plain] or [""]
    for scope in reversed(scopes):
        if len(scope) + len(label) >= LONGEST_RESULT:
            break
        label = f"{scope}_{label}"
    return label


def label_in(line: str) -> str:
    """The label of the function that a line of LLVM or assembler text names; empty for none."""
    found = SYMBOL.search(line)
    return (found["nest"] or found["product"]) if found else ""


def _plain(name: str) -> str:
    return _NOT_PLAIN.sub("_", name).strip("_")
