"""GraphDefs that are made up: nodes of any type upon constants that they were not meant for."""

from __future__ import annotations

import re
from functools import cache

from hypothesis import strategies as st

from fuzz.hostile import File

_DTYPES = ("DT_FLOAT", "DT_INT32", "DT_INT64", "DT_BOOL", "DT_STRING", "DT_DOUBLE", "DT_UINT8")
_NUMBERS = (0, 1, -1, 2, 3, 4, 7, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63))
_FIELD = {
    "DT_FLOAT": "float_val", "DT_INT32": "int_val", "DT_INT64": "int64_val", "DT_BOOL": "bool_val",
    "DT_STRING": "string_val", "DT_DOUBLE": "double_val", "DT_UINT8": "int_val",
}  # fmt: skip


_SPELLED = {
    "float32": "DT_FLOAT", "int32": "DT_INT32", "int64": "DT_INT64", "bool": "DT_BOOL",
    "string": "DT_STRING", "float64": "DT_DOUBLE", "uint8": "DT_UINT8",
}  # fmt: skip
_DTYPE = re.compile(r"type: (DT_\w+)")


def _attribute(name: str, value: str) -> str:
    return f' attr {{ key: "{name}" value {{ {value} }} }}'


@st.composite
def _constant(draw: st.DrawFn, name: str) -> str:
    """A Const of a few values, any of which may be odd, in a shape that may not fit."""
    dtype = draw(st.sampled_from(_DTYPES[:3] * 3 + _DTYPES))
    shape = draw(st.lists(st.sampled_from((0, 1, 2, 2, 3, 3, 4, 5)), max_size=3))
    field = _FIELD[dtype]
    large = _NUMBERS[9:] if dtype == "DT_INT64" else ()
    number = st.sampled_from((*_NUMBERS[:7] * 3, *_NUMBERS[7:9], *large))
    if dtype == "DT_BOOL":
        values = ["true", "false"]
    elif dtype == "DT_STRING":
        values = ['"a"', '"\\377"']
    else:
        values = [str(draw(number)) for _ in range(draw(st.integers(0, 4)))]
        if dtype in ("DT_FLOAT", "DT_DOUBLE"):
            values += draw(st.sampled_from(([], [], ["nan"], ["inf"])))
    dims = " ".join(f"dim {{ size: {size} }}" for size in shape)
    content = " ".join(f"{field}: {value}" for value in values)
    tensor = f"tensor {{ dtype: {dtype} tensor_shape {{ {dims} }} {content} }}"
    parts = _attribute("dtype", f"type: {dtype}") + _attribute("value", tensor)
    return f'node {{ name: "{name}" op: "Const"{parts} }}\n'


def _value(draw: st.DrawFn, kind: str, dtypes: tuple[str, ...], count: int) -> str:
    """The value of an attribute of a kind, mostly one that makes sense."""
    number = st.sampled_from((*_NUMBERS[:7] * 2, *_NUMBERS))
    simple = {
        "type": lambda: f"type: {draw(st.sampled_from(dtypes))}",
        "int": lambda: f"i: {draw(st.one_of(st.just(count), number))}",
        "float": lambda: f"f: {draw(st.sampled_from(('0', '1', '-1', 'nan', '1e30')))}",
        "bool": lambda: f"b: {draw(st.sampled_from(('true', 'false')))}",
        "string": lambda: f's: "{draw(st.sampled_from(("SAME", "VALID", "NHWC", "NCHW", "")))}"',
        "shape": lambda: "shape { " + " ".join(
            f"dim {{ size: {n} }}" for n in draw(st.lists(number, max_size=3))) + " }",
        "tensor": lambda: "tensor { dtype: DT_FLOAT }",
    }  # fmt: skip
    if not kind.startswith("list("):
        return simple.get(kind, lambda: "placeholder: 'a'")()
    item = kind[5:-1]
    length = draw(st.sampled_from((count, 0, 1, 4, 4)))
    return f"list {{ {' '.join(simple.get(item, lambda: '')() for _ in range(length))} }}"


@cache
def _types() -> tuple[str, ...]:
    from stepforge.frontend.graphdef import signatures
    from stepforge.frontend.nodedefs.base import NODES, lookup_node

    lookup_node("MatMul")  # loads them
    return tuple(sorted(name for name in NODES if signatures.signature(name) is not None))


@st.composite
def made_up_graphs(draw: st.DrawFn) -> File:
    """Constants, and nodes of any type upon them."""
    from stepforge.frontend.graphdef import signatures

    lines, made = [], dict[str, str]()  # the dtypes of what there is, by name
    for i in range(draw(st.integers(2, 5))):
        lines.append(draw(_constant(f"c{i}")))
        made[f"c{i}"] = _DTYPE.findall(lines[-1])[0]
    for i in range(draw(st.integers(1, 3))):
        type_ = draw(st.sampled_from(_types()))
        found = signatures.signature(type_)
        assert found is not None
        count = draw(st.integers(1, 3))
        dtypes: dict[str, str] = {}  # what attributes say
        inputs: list[str] = []
        for argument in found.inputs:
            for _ in range(count if argument.is_variadic else 1):
                wanted = _SPELLED.get(argument.dtype) or dtypes.get(argument.dtype)
                fitting = [n for n, dtype in made.items() if wanted in (None, dtype)]
                inputs.append(draw(st.sampled_from(fitting or list(made))))
                dtypes.setdefault(argument.dtype, made[inputs[-1]])
        parts = "".join(
            _attribute(a.name, _value(draw, a.kind, (dtypes.get(a.name, "DT_FLOAT"),), count))
            for a in found.attributes.values()
            if a.kind in ("type", "list(type)") or draw(st.integers(0, 3)) == 0
            or a.default is signatures.NO_DEFAULT
        )
        listed = "".join(f' input: "{name}"' for name in inputs)
        lines.append(f'node {{ name: "n{i}" op: "{type_}"{listed}{parts} }}\n')
        output = found.outputs[0].dtype if found.outputs else ""
        made[f"n{i}"] = _SPELLED.get(output) or dtypes.get(output, "DT_FLOAT")
    return File(".pbtxt", "".join(lines).encode(), True)
