"""The C header of a library that is compiled ahead of time: declarations, and what they mean."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator

from stepforge.codegen.exports import ExportedLibrary, ExportedStep, Parameter
from stepforge.ir.types import Type

# How C spells the elements of a dtype; halves are their bits, complex numbers pairs of parts.
C_TYPES = {
    "bool": "uint8_t", "f16": "uint16_t", "bf16": "uint16_t", "f32": "float", "f64": "double",
    "c64": "float", "c128": "double",
    **{f"{sign}{n}": f"{'u' if sign == 'u' else ''}int{n}_t" for sign in "iu"
       for n in (8, 16, 32, 64)},
}  # fmt: skip
_NOTES = {
    "bool": "0 or 1", "f16": "bits of IEEE halves", "bf16": "bits of bfloat16",
    "c64": "pairs (real, imaginary)", "c128": "pairs (real, imaginary)",
}  # fmt: skip
_TOP = """\
/* {name}: made by stepforge. All functions are thread-safe: they keep nothing between calls and
 * allocate nothing. Arrays are dense and row-major; results must not overlap with anything else.
 *
 * A step returns 0, or a status that NAME_message puts into words (written into the workspace, so
 * that it holds until the next call with that workspace; it may be NULL). A step that fails leaves
 * all variables as they were.
 *
 * A workspace is memory of NAME_workspace(sizes...) bytes, at any address, which one call uses at a
 * time, or NULL where a step says so.
 */
"""
_PARALLEL = """\
/* Runs job(arguments, i) for all 0 <= i < count, in any order, on any threads, and returns when all
 * are done; pool is what the caller handed in. Results do not depend on how it does so. */
typedef void (*{name}_parallel_for)(
    void *pool, void (*job)(void *arguments, int64_t i), void *arguments, int64_t count);
"""


def c_header(library: ExportedLibrary, parallel: Collection[str] = ()) -> str:
    """The text of the header; ``parallel`` names the steps that take a ``parallel_for``."""
    guard = f"{library.name.upper()}_H"
    parts = [
        _TOP.format(name=library.name),
        f"#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n\n"
        '#ifdef __cplusplus\nextern "C" {\n#endif\n\n',
        declarations(library, parallel, comments=True),
        "\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n",
    ]
    return "".join(parts)


def declarations(
    library: ExportedLibrary, parallel: Collection[str] = (), *, comments: bool = False
) -> str:
    """The declarations alone, as cffi reads them."""
    blocks: list[str] = []
    if library.has_state:
        blocks.append("".join(_state(library, comments)))
    if parallel:
        blocks.append(_PARALLEL.format(name=library.name))
    blocks += ["".join(_step(library, s, comments, s.name in parallel)) for s in library.steps]
    return "\n".join(blocks)


def _step(
    library: ExportedLibrary, step: ExportedStep, comments: bool, parallel: bool
) -> Iterator[str]:
    if comments:
        yield _comment(step)
    given = [_declared(p) for p in step.parameters] + ["void *workspace"]
    yield _function("int32_t", step.name, given)
    if parallel:
        if comments:
            yield "/* The same; parallel_for may be NULL. */\n"
        more = [f"{library.name}_parallel_for parallel_for", "void *pool"]
        yield _function("int32_t", f"{step.name}_parallel", [*given, *more])
    yield _function("int64_t", f"{step.name}_workspace", [f"int64_t {n}" for n in step.sizes])
    message = ["int32_t status", "void *workspace"]
    yield _function("const char *", f"{step.name}_message", message)


def _function(returns: str, name: str, parameters: list[str]) -> str:
    space = "" if returns.endswith("*") else " "
    line = f"{returns}{space}{name}({', '.join(parameters) or 'void'});\n"
    if len(line) <= 100:
        return line
    return f"{returns}{space}{name}(\n    " + ",\n    ".join(parameters) + ");\n"


def _declared(parameter: Parameter) -> str:
    if parameter.role == "size":
        return f"int64_t {parameter.name}"
    constant = "" if parameter.writable else "const "
    if parameter.role == "state":
        return f"{constant}void *{parameter.name}"
    element = C_TYPES[parameter.type.dtype]
    if parameter.by_value:
        return f"{element} {parameter.name}"
    return f"{constant}{element} *{parameter.name}"


def _comment(step: ExportedStep) -> str:
    lines = [f"{step.name}:"]
    lines += [f"  {p.name}: {_meaning(step, p)}" for p in step.parameters]
    memory = "needed" if step.needs_memory else "may be NULL (messages then lack their values)"
    lines.append(f"  workspace: {memory}")
    return "/* " + "\n * ".join(lines) + " */\n"


def _meaning(step: ExportedStep, parameter: Parameter) -> str:
    if parameter.role == "size":
        return "a size, at least 0"
    if parameter.role == "state":
        return "the variables, changed by the step" if parameter.writable else "the variables"
    text = type_text(step, parameter.type)
    if parameter.sized_by:
        text = f"at most {text}, dense, its shape in {parameter.sized_by}"
    kind = {"feed": "", "result": "result, ", "held": "variable, "}[parameter.role]
    kind += "changed by the step, " if parameter.role == "held" and parameter.writable else ""
    user = f" ({parameter.label})" if parameter.label not in ("", parameter.name) else ""
    return f"{kind}{text}{user}".replace("*/", "* /")


def type_text(step: ExportedStep, type_: Type) -> str:
    """A type in terms of the parameters, and how its elements are kept."""
    shape = f"[{', '.join(map(str, step.shape(type_)))}]" if type_.dims else ""
    note = _NOTES.get(type_.dtype)
    return f"{type_.dtype}{shape}" + (f", {note}" if note else "")


def _state(library: ExportedLibrary, comments: bool) -> Iterator[str]:
    name = library.name
    if comments:
        first = (
            f"{name}_init gives it its first contents." if library.image is not None
            else "Its first contents are the bytes of the .state file made with this header."
        )
        text = (
            f"The variables of {name} are one block of {name}_state_size() bytes, aligned as malloc"
            " aligns, which the caller owns, copies and frees; one call at a time may change it."
            f" At multiples of 64 (C11: aligned_alloc) large steps are faster. {first}"
            f" {name}_get and {name}_set copy one variable; they return 1 where there is none."
        )
        yield "/* " + "\n * ".join(textwrap.wrap(text, 97)) + " */\n"
    constants = [f"{name}_variable_{h.name} = {i}" for i, h in enumerate(library.held)]
    yield "enum {\n    " + ",\n    ".join(constants) + "\n};\n"
    if comments:
        for held in library.held:
            yield f"/* {held.name}: {held.type} ({held.label}), {held.bytes} bytes */\n"
    yield _function("int64_t", f"{name}_state_size", [])
    if library.image is not None:
        yield _function("void", f"{name}_init", ["void *state"])
    given = "int32_t variable"
    yield _function("int32_t", f"{name}_get", ["const void *state", given, "void *value"])
    yield _function("int32_t", f"{name}_set", ["void *state", given, "const void *value"])
