"""The text of the IR: what is printed parses back to the same text, and mistakes are pointed at."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.core import (
    Block,
    Const,
    Function,
    Global,
    Module,
    Operation,
    Site,
    Symbol,
    Value,
)
from stepforge.ir.errors import IRError
from stepforge.ir.opdef import OpDef
from stepforge.ir.parser import parse_call, parse_dim, parse_function, parse_module, parse_type
from stepforge.ir.text import (
    element_text,
    literal_text,
    print_function,
    print_module,
    print_operation,
)
from stepforge.ir.types import NUMERIC, ListType, Type, numpy_dtype

EVERYTHING = Path(__file__).parent / "golden" / "everything.sf"


class Anything(OpDef):
    """An op of this file only, in no registry, that takes any operands and attributes."""

    name = "return"  # so that its text parses
    terminator = True
    defaults: dict[str, Any] = {}  # noqa: RUF012

    def infer(self, *operands: Any) -> tuple[Any, ...]:
        return ()


def returning(*operands: Any, globals_: dict[str, Global] | None = None) -> Function:
    """A function that takes and returns the operands."""
    params = [o for o in dict.fromkeys(operands) if isinstance(o, Value)]
    build = Builder()
    build.emit("return", *operands)
    return build.function("f", params, globals_)


def round_trip(function: Function) -> str:
    text = print_function(function)
    assert print_function(parse_function(text)) == text
    return text


def test_everything_round_trips() -> None:
    text = EVERYTHING.read_text(encoding="utf-8")
    assert print_module(parse_module(text)) == text


def test_site_comments_are_printed_when_asked_and_ignored_when_read() -> None:
    build = Builder(Site("dense/MatMul", "mlp.py", 12))
    x = Value(Type("f32"), "x")
    y = build.emit("neg", x, names=("y",))
    build.emit("return", y)
    function = build.function("f", [x])
    text = print_function(function, sites=True)
    assert "  %y = neg(%x) : f32  // 'dense/MatMul' mlp.py:12\n" in text
    assert print_function(parse_function(text)) == print_function(function)


NAMES = [
    (["x", "x", "x_1", "x"], ["x", "x_1", "x_1_1", "x_2"]),
    (["", "a", "", "0"], ["0", "a", "1", "_0"]),
    (["dense/MatMul", "a b", "a:0", "été"], ["dense/MatMul", "a_b", "a_0", "été"]),
]


@pytest.mark.parametrize(("wanted", "printed"), NAMES)
def test_names_are_kept_and_made_unique(wanted: list[str], printed: list[str]) -> None:
    function = returning(*[Value(Type("f32"), name) for name in wanted])
    text = round_trip(function)
    assert f"return({', '.join('%' + name for name in printed)})" in text


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (0.5, "f32", "0.5: f32"),
        (0.1, "f32", "0.1: f32"),
        (0.1, "f64", "0.1: f64"),
        (float(np.float32(0.1)), "f64", "0.10000000149011612: f64"),
        (1.0, "bf16", "1.0: bf16"),
        (1e-5, "f16", "1e-05: f16"),
        (1e300, "f32", "inf: f32"),
        (float("-inf"), "f64", "-inf: f64"),
        (float("nan"), "f32", "nan: f32"),
        (-0.0, "f32", "-0.0: f32"),
        (3, "i32", "3: i32"),
        (-128, "i8", "-128: i8"),
        (2**64 - 1, "u64", "18446744073709551615: u64"),
        (4, "index", "4"),
        (True, "bool", "true"),
        (1 + 2j, "c64", "(1.0+2.0j): c64"),
        (complex(-0.0, float("-inf")), "c128", "(-0.0-infj): c128"),
    ],
)
def test_scalar_constants(value: Any, dtype: str, text: str) -> None:
    printed = round_trip(returning(Const(Type(dtype), value)))
    assert f"return({text})" in printed
    again = parse_function(printed).results[0]
    assert again.type == Type(dtype)
    assert type(again.value) is type(value)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_elements_read_back_as_the_same_bits(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(NUMERIC)))
    dtype = numpy_dtype(name)
    bits = data.draw(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize))
    element = np.frombuffer(bits, dtype)[0] if name != "bool" else np.bool_(bits[0] & 1)
    value = complex(element) if NUMERIC[name][1] == "c" else element.item()
    value = float(element) if name == "bf16" else value
    text = round_trip(returning(Const(Type(name), value)))
    again = numpy_dtype(name).type(parse_function(text).results[0].value)
    if np.isnan(element):
        assert np.isnan(again)
        return
    assert again == element
    assert np.signbit(again.real) == np.signbit(element.real)


@pytest.mark.parametrize(
    "value",
    [
        True,
        -3,
        2.0,
        float("-inf"),
        1 - 2j,
        "",
        'a "quote", a \\ and a\nnewline\t\x00é\U0001f600',
        None,
        (),
        (1,),
        (1, (2.5, "x"), None),
        dims.named("n") * 784 + 1,
        dims.floor_div(dims.named("n") + 1, 2),
        dims.minimum(dims.named("n"), 3) - dims.named("m") * dims.named("m"),
        dims.broadcast(dims.named("n"), dims.named("m")),
        dims.named("layer.x_0") * dims.named("2d.._1") * 3 + dims.named("été"),
        Type("f32", (dims.named("n"), 3)),
        Type("index"),
        Type("i32", None),
        Type("f64", (2,), buffer=True),
        ListType(Type("f32", (dims.named("n"),))),
    ],
    ids=str,
)
def test_attributes_round_trip(value: Any) -> None:
    parsed = parse_call(f"require(message={literal_text(value)})").attrs["message"]
    assert type(parsed) is type(value)
    assert parsed == value


def test_attributes_print_only_where_they_differ_from_the_default() -> None:
    x = Value(Type("f32", (2, 3)), "x")
    op = Builder().operation("reduce_sum", [x], {"axes": (0,), "keep_dims": False})
    assert print_operation(op) == "%0 = reduce_sum(%x, axes=[0]) : f32[3]"
    given = Operation(op.defn, op.operands, {"axes": (0,), "keep_dims": False}, op.results)
    assert print_operation(given) == print_operation(op)


ARRAYS = [
    np.arange(6, dtype=np.int32).reshape(2, 3),
    np.zeros((0, 3), np.float32),
    np.zeros((2, 0), bool),
    np.array(0.1, np.float32),
    np.linspace(0, 1, 65),
    np.array([np.nan, -np.inf, -0.0], np.float16),
    np.array([1 + 2j, -0.0 - 1j], np.complex64),
    np.linspace(-1, 1, 100).astype(ml_dtypes.bfloat16),
    np.arange(80, dtype=">i8"),
    np.array([b"a\nb", b'"', b"\xff\x00"], object),
]


@pytest.mark.parametrize("data", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_constants_keep_every_bit(data: np.ndarray[Any, Any]) -> None:
    by_name = {numpy_dtype(n): n for n in NUMERIC}
    native = data.astype(data.dtype.newbyteorder("="))
    type_ = Type(by_name.get(native.dtype, "string"), data.shape)
    symbol = Symbol("a constant, with a name", type_)
    text = round_trip(returning(symbol, globals_={symbol.name: Global("constant", type_, data)}))
    again = parse_function(text).globals[symbol.name].data
    assert again is not None
    assert (again.dtype, again.shape) == (native.dtype, native.shape)
    assert again.tolist() == native.tolist() or np.isnan(native).any()
    if data.dtype != object:
        assert again.tobytes() == native.tobytes()


def test_a_function_owns_the_globals_above_it_and_those_that_it_uses() -> None:
    text = """
    variable @v: f32
    func @f() -> f32 { return(@v) }
    random @s
    func @g() -> f32 { return(@v) }
    """
    f, g = parse_module(text).functions
    assert list(f.globals) == ["v"]
    assert list(g.globals) == ["s", "v"]


def test_printing_takes_linear_time() -> None:
    """Counted in calls, not in seconds: each value is named once."""
    build = Builder()
    x: Any = Value(Type("f32"), "x")
    first = x
    for _ in range(3000):
        x = build.emit("neg", x, names=("x",))
    build.emit("return", x)
    lines = print_function(build.function("f", [first])).splitlines()
    assert lines[3000] == "  %x_3000 = neg(%x_2999) : f32"


MISTAKES = [
    (
        "func @f(%x: f32) -> f32 {\n  %y = matmull(%x) : f32\n  return(%y)\n}",
        """\
        line 2, column 8: unknown operation 'matmull'; did you mean matmul?
              %y = matmull(%x) : f32
                   ^""",
    ),
    (
        "func @f(%image: f32) -> f32 {\n  return(%imag)\n}",
        """\
        line 2, column 10: %imag is not defined here; did you mean %image?
              return(%imag)
                     ^""",
    ),
    ("func @f(%x: f32, %x: f32) {", "line 1, column 18: %x is already defined"),
    (
        "func @f(%x: f32) {\n  %y, %z = neg(%x) : f32\n",
        "line 2, column 3: neg names 2 results but 1 types",
    ),
    ("func @f(%x: f23) {", "unknown type 'f23'; did you mean f32?"),
    ("func @f(%x: f32[n) {", "expected ',' or ']', found ')'"),
    ("func @f(%x: f32[max(n)]) {", "max takes two dimensions, not 1"),
    ("func @f(%x: f32[sqrt(n)]) {", "'sqrt' is no function of dimensions (floordiv, min"),
    ("func @f() { neg(3: u8, 256: u8) }", "column 24: this is no value of type u8"),
    ("func @f() { neg(1.5: i32) }", "this is no value of type i32"),
    ("func @f() { neg(@w) }", "@w is not declared: write 'variable @w: <type>' above"),
    ("func @f() { neg(1.0: f32, scale=2) }", "neg has no attribute 'scale'"),
    ("func @f() { reduce_sum(axis=2) }", "it has axes, keep_dims"),
    ("func @f() -> f32 { return() }", "@f declares the results (f32) but returns ()"),
    ("constant @c: f32[2] = [1.0]", "a list of 2 was expected, this has 1"),
    ('constant @c: f32[2] = base64"AAAA"', "3 bytes are no f32[2]"),
    ("constant @c: f32[n] = [1.0]", "a constant needs a static shape"),
    ("variable @v: f32\nvariable @v: f32", "@v is already declared"),
    ("func @f() { return() } ;", "unexpected character ';'"),
    ("func @f() { return(", "expected an operand or attribute, found the end of the text"),
    ("fun @f() {}", "expected 'func' or a global, found 'fun'"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_mistakes_are_pointed_at(text: str, message: str) -> None:
    with pytest.raises(IRError) as error:
        parse_module(text)
    assert textwrap.dedent(message) in str(error.value)


def test_types_dimensions_and_cases_parse_alone() -> None:
    n = dims.named("n")
    assert parse_type("list<f32[2*n]>") == ListType(Type("f32", (n * 2,)))
    assert parse_dim("28*28*n - (n + 1)*2") == n * 782 - 2
    assert parse_dim("floordiv(8*n, 4)") == n * 2
    call = parse_call('cast(@i64[3], 2.5: f32, true, bool[n], dtype="f32")')
    assert call.defn.name == "cast"
    assert [o.type if isinstance(o, Const | Symbol) else o for o in call.operands] == [
        Type("i64", (3,)),
        Type("f32"),
        Type("bool"),
        Type("bool", (n,)),
    ]
    assert call.attrs == {"dtype": "f32"}
    with pytest.raises(IRError, match="expected the end of the text"):
        parse_type("f32 f32")


def test_what_is_no_literal_prints_and_does_not_parse() -> None:
    defn = Anything()
    block = Block((), (Operation(defn, (), {"x": np.float32(2)}),))
    text = print_function(Function("f", block))
    assert "return(x=<float32: np.float32(2.0)>)" in text
    with pytest.raises(IRError):
        parse_function(text)


def test_modules_find_functions_by_name() -> None:
    module = Module((returning(),))
    assert module["f"] is module.functions[0]
    with pytest.raises(KeyError):
        module["g"]


def test_elements_of_strings() -> None:
    assert element_text(b"caf\xc3\xa9", "string") == '"caf\\u00e9"'
    assert element_text(b"\xff", "string") == '"\\udcff"'
