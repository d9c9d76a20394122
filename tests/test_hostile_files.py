"""Files that are made to do harm: each is an error for users, soon, in little memory.

They are loaded by a process whose memory is limited to 2 GB above what it starts with; see
``fuzz.hostile_worker``. The fuzzer (``test_fuzz``, ``make fuzz``) goes on from there.
"""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz.hostile import File, Worker, check_file
from fuzz.shared import Finding

T = 'attr { key: "T" value { type: DT_FLOAT } }'
HUGE = 2**40


# ---- IR text -------------------------------------------------------------------------------------
def parameter(dimension: str) -> str:
    return f"func @f(%x: f32[{dimension}]) {{\n  return()\n}}"


def made(shape: str) -> str:
    return (
        f"func @f() -> f32[{shape}] {{\n  %0 = fill(1.0: f32, shape=[{shape}]) : f32[{shape}]\n"
        "  return(%0)\n}"
    )


def constant(text: str) -> str:
    return f"constant @c: {text}\nfunc @f() {{\n  return()\n}}"


NESTED = "more than 64 brackets in each other"
TEXTS: dict[str, tuple[str, str]] = {
    "regions": ("func @f(%c: bool) {\n" + "cond(%c) then {\n" * 20_000, NESTED),
    "lists": ("func @f() {\nfill(0.0: f32, shape=" + "[" * 100_000, NESTED),
    "brackets": (parameter("(" * 100_000), NESTED),
    "types": ("func @f(%x: " + "list<" * 100_000, NESTED),
    "applications": (parameter("min(n, " * 100_000), NESTED),
    "signs": (parameter("-" * 100_000), "expected a dimension"),
    "numbers": ("func @f() {\n%x = neg((" + "1" * 3000 + "+" + "2" * 3000, "expected an operand"),
    "sums": (parameter("*".join(f"(a{i}+b{i})" for i in range(40))), "more than 20000 parts"),
    "powers": (parameter("*".join(["(a+b+c+d+e+f+g)"] * 40)), "more than 20000 parts"),
    "digits": (parameter("9" * 100_000), "a number of 100000 digits"),
    "products": (parameter("*".join(["9" * 18] * 3000)), "a number is at most"),
    "overflow": (constant('f32[4294967296, 4294967296] = base64""'), "too large for a constant"),
    "empty": (constant(f"f32[0, {2**62}] = []"), "too large for a constant"),
    "base64": (constant('f32[1] = base64"abc"'), "this is no base64: Incorrect padding"),
    "unicode": (constant('f32[1] = base64"\\u00e9"'), "this is no base64"),
    "negative": (constant("f32[-1] = []"), "a list of -1 was expected"),
    "rank": (constant(f"f32[{'1, ' * 40}1] = {'[' * 41}0.0{']' * 41}"), "too large for"),
    "memory": (made(str(HUGE)), f"OOM when allocating tensor with shape[{HUGE}]"),
    "address": (made(str(2**62)), f"OOM when allocating tensor with shape[{2**62}]"),
    "functions": ("func @f() {\n  return()\n}\n" * 20_000, "two functions called @f"),
    "names": (
        "func @f() {\n" + "".join(f"%{'a' * 800}{i} = fill(1.0: f32) : f32\n" for i in range(500))
        + f"%y = neg(%{'a' * 800}b) : f32\n", "is not defined here",
    ),
}  # fmt: skip


# ---- graphs --------------------------------------------------------------------------------------
def attribute(name: str, value: str) -> str:
    return f' attr {{ key: "{name}" value {{ {value} }} }}'


def node(name: str, op: str, *inputs: str, attr: str = T) -> str:
    listed = "".join(f' input: "{text}"' for text in inputs)
    return f'node {{ name: "{name}" op: "{op}"{listed} {attr} }}\n'


def const(name: str, tensor: str, dtype: str = "DT_INT32") -> str:
    parts = attribute("dtype", f"type: {dtype}")
    value = attribute("value", f"tensor {{ dtype: {dtype} {tensor} }}")
    return node(name, "Const", attr=parts + value)


def placeholder(name: str, *sizes: int) -> str:
    dims = " ".join(f"dim {{ size: {size} }}" for size in sizes)
    parts = attribute("dtype", "type: DT_FLOAT") + attribute("shape", f"shape {{ {dims} }}")
    return node(name, "Placeholder", attr=parts)


def integer(name: str) -> str:
    return attribute(name, "type: DT_INT32")


AXIS = const("axis", "tensor_shape { } int_val: 0")


def concat(name: str, *inputs: str) -> str:
    attr = T + integer("Tidx") + attribute("N", f"i: {len(inputs)}")
    return node(name, "ConcatV2", *inputs, "axis", attr=attr)


def squares(times: int) -> str:
    """The outer product of a vector with itself, flat, again and again."""
    text = "".join(placeholder(f"x{i}", -1) for i in range(30)) + AXIS
    text += const("one", "tensor_shape { } int_val: 1")
    text += const("flat", "tensor_shape { dim { size: 1 } } int_val: -1")
    text += concat("v0", *(f"x{i}" for i in range(30)))
    for k in range(times):
        text += node(f"a{k}", "ExpandDims", f"v{k}", "axis", attr=T + integer("Tdim"))
        text += node(f"b{k}", "ExpandDims", f"v{k}", "one", attr=T + integer("Tdim"))
        text += node(f"m{k}", "Mul", f"a{k}", f"b{k}")
        text += node(f"v{k + 1}", "Reshape", f"m{k}", "flat", attr=T + integer("Tshape"))
    return text


def splits(count: int) -> str:
    attr = T + attribute("num_split", "i: 65536")
    parts = (node(f"s{i}", "Split", "axis", "x", attr=attr) for i in range(count))
    return placeholder("x", 65536) + AXIS + "".join(parts)


DEEP = 'node { name: "x" op: "NoOp" attr { key: "a" value { ' + 'func { attr { value { ' * 5000
GRAPHS: dict[str, tuple[str, str]] = {
    "splat": (
        const("c", f"tensor_shape {{ dim {{ size: {HUGE} }} }} int_val: 1"),
        f"shape [{HUGE}] takes {4 * HUGE} bytes, and the constants of a GraphDef at most",
    ),
    "large splat": (
        const("c", "tensor_shape { dim { size: 500000000 } } float_val: 1", "DT_FLOAT")
        + node("y", "Neg", "c"),
        "Unable to allocate 1.86 GiB",
    ),
    "fill": (
        const("c", f"tensor_shape {{ dim {{ size: 1 }} }} int64_val: {HUGE}", "DT_INT64")
        + const("v", "tensor_shape { } float_val: 1", "DT_FLOAT")
        + node("y", "Fill", "c", "v", attr=T + attribute("index_type", "type: DT_INT64")),
        f"OOM when allocating tensor with shape[{HUGE}]",
    ),
    "random": (
        const("c", "tensor_shape { dim { size: 2 } } int_val: 1000000")
        + node("y", "RandomUniform", "c", attr=integer("T") + attribute("dtype", "type: DT_FLOAT")),
        "OOM when allocating tensor with shape[1000000, 1000000]",
    ),
    "doubled": (
        placeholder("v0", 4) + AXIS
        + "".join(concat(f"v{k + 1}", f"v{k}", f"v{k}") for k in range(70)),
        "OOM when allocating tensor with shape",
    ),
    "squared": (squares(6), "a size is an expression of more than 20000 parts"),
    "split": (splits(50), "More than 262144 outputs of all nodes"),
    "cycle": (node("a", "Neg", "b") + node("b", "Neg", "a"), "2 nodes in a cycle"),
    "kind": (
        placeholder("x", 2) + node("a", "Neg", "x", attr=attribute("T", "i: 3")),
        "AttrValue had value with type 'int' when 'type' expected\n\t for attr 'T'",
    ),
    "sizes": (placeholder("x", -7), "dimensions under -1"),
    "deep": (DEEP, "it is nested too deeply"),
    "function": (
        node("p", "PyFunc", attr=attribute("token", 's: "os.system"')
             + attribute("Tin", "list { }") + attribute("Tout", "list { type: DT_FLOAT }")),
        "Could not find callback with key=os.system in the registry",
    ),
}  # fmt: skip


# ---- arrays --------------------------------------------------------------------------------------
def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def described(dtype: str, shape: str) -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n"


ARRAYS: dict[str, tuple[bytes, str]] = {
    "huge": (npy(described("'<f8'", f"({HUGE},)")), f"takes {8 * HUGE} bytes, and the file has"),
    "negative": (npy(described("'<f8'", "(-1,)")), "an array of shape (-1,)"),
    "pickled": (
        npy(described("'|O'", "(1,)"), b"cos\nsystem\n(S'touch /tmp/hacked'\ntR."),
        "it holds Python objects, which are not read",
    ),
    "code": (npy(described("__import__('os').getcwd()", "(1,)")), "malformed node"),
    "deep": (npy("(" * 9000), "cannot read"),
    "deeper": (npy(described("[" * 2000 + "]" * 2000, "(1,)")), "cannot read"),
    "structure": (npy(described("[('a', '<f8', (1000000000,))]", "(0,)")), "C int"),
    "zero": (npy(described("'<f8'", f"(0, {10**23})")), "cannot read"),
    "rank": (npy(described("'<f8'", "(" + "1," * 200 + ")"), b"\0" * 8), "cannot read"),
    "version": (b"\x93NUMPY\x09\x00", "(9, 0)"),
}


def bomb() -> bytes:
    """An archive whose directory says that a member unpacks to four gigabytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy(described("'|u1'", f"({2**32 - 256},)")))
    data = bytearray(file.getvalue())
    entry = data.index(b"PK\x01\x02")  # of the directory; its sizes are at 20 and 24
    data[entry + 24 : entry + 28] = (2**32 - 128).to_bytes(4, "little")
    return bytes(data)


def nameless() -> bytes:
    """An archive whose member has no name."""
    data = bytearray(bomb().replace(b"x.npy", b""))
    for signature, length in ((b"PK\x03\x04", 26), (b"PK\x01\x02", 28)):
        at = data.index(signature) + length
        data[at : at + 2] = b"\0\0"
    return bytes(data)


CASES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    **{f"text: {k}": (".sf", lambda t=t: t.encode(), m) for k, (t, m) in TEXTS.items()},
    **{f"graph: {k}": (".pbtxt", lambda t=t: t.encode(), m) for k, (t, m) in GRAPHS.items()},
    **{f"array: {k}": (".npy", lambda d=d: d, m) for k, (d, m) in ARRAYS.items()},
    "archive: bomb": (".npz", bomb, f"unpacks to {2**32 - 128} bytes"),
    "archive: no name": (".npz", nameless, "cannot read"),
    "archive: text": (".npz", lambda: b"PK\x05\x06", "cannot read"),
    "graph: bytes": (".pb", lambda: b"\x0a\xff\xff\xff\xff\x0f", "is no GraphDef"),
    "graph: names": (".pb", lambda: b"\x0a\x04\x0a\x02\xc3\x28", "is no GraphDef"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_does_harm_is_an_error(name: str) -> None:
    """An error for users, from a process that lives on: its memory is limited."""
    suffix, data, message = CASES[name]
    answer = check_file(File(suffix, data(), run=True))
    assert message in answer["text"]
    assert len(answer["text"]) < 5000


def test_the_command_says_it_in_one_block(tmp_path: Path) -> None:
    (tmp_path / "deep.sf").write_text(TEXTS["brackets"][0])
    command = [sys.executable, "-m", "stepforge", "opt", "deep.sf"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("stepforge: error: deep.sf is not IR:\nline 1, column ")
    assert "Traceback" not in done.stderr


# ---- the process that loads them -----------------------------------------------------------------
def test_a_process_that_ends_is_a_finding() -> None:
    with pytest.raises(Finding, match="it ends the process, with status 1"):
        check_file(File("/gone/file.sf", b""))
    assert check_file(File(".sf", b"func @f() {\n  return()\n}"))["error"] == ""  # another one


def test_what_takes_too_long_is_a_finding() -> None:
    patient = Worker()
    try:
        with pytest.raises(Finding, match=r"it takes more than 0\.0 s"):
            patient.ask(File(".npy", b""), seconds=0.0)
    finally:
        patient.stop()
