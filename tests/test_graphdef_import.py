"""``tf.import_graph_def``: arguments, TensorFlow's errors, and files that nobody should trust."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

import stepforge as tf
from stepforge.frontend.graphdef import tensors
from stepforge.frontend.graphdef.proto_text import file_descriptor
from stepforge.ir.errors import NotFoundError

DATA = Path(__file__).parent / "data" / "graphdefs"
FLOAT = 'attr { key: "dtype" value { type: DT_FLOAT } }'
T = 'attr { key: "T" value { type: DT_FLOAT } }'


pytestmark = pytest.mark.usefixtures("own_graph")


def node(name: str, op: str, *inputs: str, attr: str = T) -> str:
    lines = "".join(f' input: "{text}"' for text in inputs)
    return f'node {{ name: "{name}" op: "{op}"{lines} {attr} }}\n'


def attribute(name: str, value: str) -> str:
    return f'attr {{ key: "{name}" value {{ {value} }} }}'


def constant(value: str, dtype: str = "DT_FLOAT") -> str:
    parts = attribute("dtype", f"type: {dtype}")
    return node("c", "Const", attr=parts + attribute("value", f"tensor {{ {value} }}"))


def parsed(text: str) -> Any:
    return text_format.Parse(text, tf.GraphDef())


def imported(text: str, **keywords: Any) -> Any:
    return tf.import_graph_def(parsed(text), **keywords)


X = node("x", "Placeholder", attr=FLOAT)
I = node("i", "Placeholder", attr='attr { key: "dtype" value { type: DT_INT32 } }')  # noqa: E741


# ---- arguments -----------------------------------------------------------------------------------
def test_names_and_elements() -> None:
    y, op = imported(node("a/y", "Neg", "x") + X, return_elements=["a/y:0", b"x"])
    assert (y.name, op.name) == ("import/a/y:0", "import/x")
    (again,) = imported(X, return_elements=["x"])
    assert again.name == "import_1/x"
    (plain,) = imported(X, name="", return_elements=["x"])
    assert plain.name == "x"
    (second,) = imported(X, name="", return_elements=["x"])
    assert second.name == "x_1"
    assert imported(X, name="part/of", producer_op_list=None) is None
    assert tf.get_default_graph().get_operation_by_name("part/of/x").type == "Placeholder"


def test_inputs_are_replaced() -> None:
    text = X + node("y", "Neg", "x") + node("z", "Exp", "y", "^y")
    mine = tf.constant([1.0, 2.0])
    first = tf.no_op("first")
    z, x = imported(text, input_map={"y:0": mine, "^y": first}, return_elements=["z", "x:0"])
    assert list(z.inputs) == [mine]
    assert z.control_inputs == [first]
    assert x.op.name == "import/x"
    (y,) = imported(text, input_map={"x": [3.0]}, return_elements=["y:0"])
    with tf.Session() as session:
        assert session.run(y).tolist() == [-3.0]
    (same,) = imported(text, input_map={"x": mine}, return_elements=["x:0"])
    assert same is mine


def test_control_inputs_devices_and_colocation() -> None:
    text = X + node("y", "Neg", "x", "^x") + node(
        "z", "Exp", "y", "^w", attr=T + attribute("_class", 'list { s: "loc:@y" s: "other" }')
    )
    text += 'node { name: "w" op: "NoOp" device: "/device:GPU:0" }'
    z, w = imported(text, return_elements=["z", "w"])
    assert z.control_inputs == [w]
    assert z.colocation_groups() == [b"loc:@import/y", b"other"]
    assert w.device == "/device:GPU:0"
    with tf.device("/job:a"):
        (w,) = imported(text, return_elements=["w"])
    assert w.device == "/job:a/device:GPU:0"


def test_a_message_of_another_class_will_do() -> None:
    class Message:
        DESCRIPTOR = tf.GraphDef.DESCRIPTOR

        def SerializeToString(self) -> bytes:
            return parsed(X).SerializeToString()  # type: ignore[no-any-return]

    (x,) = tf.import_graph_def(Message(), return_elements=["x"])
    assert x.name == "import/x"


def test_defaults_that_a_file_leaves_out() -> None:
    text = X + constant("dtype: DT_INT32 tensor_shape { } int_val: 1", "DT_INT32")
    total, y = imported(
        text + node("s", "Sum", "x", "c") + node("y", "MatMul", "x", "x"),
        return_elements=["s", "y"],
    )
    assert total.get_attr("keep_dims") is False
    assert y.get_attr("transpose_b") is False


def test_a_finalized_graph_stays_as_it_is() -> None:
    tf.get_default_graph().finalize()
    with pytest.raises(RuntimeError, match="Graph is finalized"):
        imported(X)


# ---- errors, in TensorFlow's words ---------------------------------------------------------------
BAD_GRAPHS = {
    "unknown input": (node("a", "Neg", "b"), "Node 'a': Unknown input node 'b'"),
    "unknown control": (X + node("a", "Neg", "x", "^z"), "Node 'a': Unknown input node '^z'"),
    "no index": (X + node("a", "Neg", "x:y"), "Node 'a': Unknown input node 'x:y'"),
    "no output": (
        X + node("a", "Neg", "x:1"),
        "Node 'a': Connecting to invalid output 1 of source node x which has 1 outputs.",
    ),
    "twice": (X + X, "Node 'x' is not unique"),
    "cycle": (node("a", "Neg", "b") + node("b", "Neg", "a"), "2 nodes in a cycle"),
    "self": (node("a", "Neg", "a"), "1 nodes in a cycle"),
    "bad name": (node("a b", "NoOp"), "Node 'a b': Node name contains invalid characters"),
    "no name": (node("", "NoOp"), "Node '': Node name contains invalid characters"),
    "control first": (
        X + node("a", "Neg", "^x", "x"),
        "Node 'a': Control dependencies must come after regular dependencies",
    ),
    "dtype": (
        I + node("a", "Neg", "i"),
        "Input 0 of node import/a was passed int32 from import/i:0 incompatible with expected "
        "float.",
    ),
    "reference": (
        X + node("a", "Assign", "x", "x"),
        "Input 0 of node import/a was passed float from import/x:0 incompatible with expected "
        "float_ref.",
    ),
    "few": (
        X + node("a", "Add", "x"),
        "NodeDef expected inputs 'float, float' do not match 1 inputs specified; Op<name=Add",
    ),
    "many": (
        X + node("a", "Neg", "x", "x"),
        "NodeDef expected inputs 'float' do not match 2 inputs specified; Op<name=Neg",
    ),
    "list": (
        X + node("a", "Pack", "x", "x", attr=T + attribute("N", "i: 3")),
        "NodeDef expected inputs 'float, float, float' do not match 2 inputs specified",
    ),
    "missing": (
        X + node("a", "Neg", "x", attr=""),
        "NodeDef missing attr 'T' from Op<name=Neg",
    ),
    "kind": (
        X + node("a", "Neg", "x", attr=attribute("T", "i: 3")),
        "AttrValue had value with type 'int' when 'type' expected\n\t for attr 'T'",
    ),
    "list kind": (
        X + node("a", "Squeeze", "x", attr=T + attribute("squeeze_dims", "list { f: 1 }")),
        "AttrValue had value with type 'list(float)' when 'list(int)' expected",
    ),
    "function": (
        X + node("a", "Neg", "x", attr=attribute("T", 'func { name: "f" }')),
        "AttrValue had value with type 'func' when 'type' expected",
    ),
    "place": (
        X + node("a", "Neg", "x", attr=T + attribute("_class", 'list { s: "loc:@b" }')),
        "Node 'a' expects to be colocated with unknown node 'b'",
    ),
    "shape": (constant("dtype: DT_FLOAT tensor_shape { dim { size: -5 } }"), "[-5] is not fully"),
}  # name -> (graph, what TensorFlow 2.21 says of it)
WINDOW = attribute("ksize", "list { i: 1 }") + attribute("strides", "list { i: 1 }")
OUR_LIMITS = {
    "padding": (
        X + node("a", "MaxPool", "x", attr=T + WINDOW + attribute("padding", 's: "FOO"')),
        "for '{{node import/a}} = MaxPool'",
    ),
    "semantics": (
        X
        + node("a", "Equal", "x", "x", attr=T + attribute("incompatible_shape_error", "b: false")),
        "stepforge knows incompatible_shape_error as True only, not False",
    ),
    "quantized": (
        node("x", "Placeholder", attr=attribute("dtype", "type: DT_QINT8")),
        "stepforge has no values of dtype qint8",
    ),
    "future": (
        node("x", "Placeholder", attr=attribute("dtype", "type: 77")),
        "stepforge has no values of dtype number 77",
    ),
    "outputs": (
        I + X + node("a", "Split", "i", "x", attr=T + attribute("num_split", "i: 2000000000")),
        "More than 65536 outputs",
    ),
    "negative": (
        I + X + node("a", "Split", "i", "x", attr=T + attribute("num_split", "i: -1")),
        "Value for attr 'num_split' of -1 must be at least",
    ),
    "bytes": (
        constant('dtype: DT_FLOAT tensor_shape { dim { size: 4 } } tensor_content: "abcd"'),
        "shape [4] of float32 takes 16 bytes, tensor_content has 4",
    ),
    "huge": (
        constant("dtype: DT_FLOAT tensor_shape { dim { size: 9223372036854775807 } }"),
        "constants of a GraphDef at most 2147483648",
    ),
    "empty and huge": (
        constant(
            "dtype: DT_FLOAT tensor_shape { dim { size: 0 } dim { size: 9223372036854775807 } }"
        ),
        "constants of a GraphDef at most 2147483648",
    ),
    "rank": (
        constant(f"dtype: DT_FLOAT tensor_shape {{ {'dim { size: 1 } ' * 40} }}"),
        "rank 40 is over 32",
    ),
    "no rank": (constant("dtype: DT_FLOAT tensor_shape { unknown_rank: true }"), "is unknown"),
    "other dtype": (constant("dtype: DT_INT32 tensor_shape { }"), "float32 is not that of"),
    "packed strings": (
        constant('dtype: DT_STRING tensor_shape { } tensor_content: "a"', "DT_STRING"),
        "strings as tensor_content",
    ),
    "half a number": (
        constant("dtype: DT_COMPLEX64 tensor_shape { } scomplex_val: 1", "DT_COMPLEX64"),
        "a complex number has two parts",
    ),
}


@pytest.mark.parametrize("name", [*BAD_GRAPHS, *OUR_LIMITS])
def test_bad_graphs(name: str) -> None:
    text, message = {**BAD_GRAPHS, **OUR_LIMITS}[name]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are compared below
        imported(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"graph_def": 3}, TypeError, "Argument `graph_def` must be a GraphDef proto."),
        ({"graph_def": b"x"}, TypeError, "Argument `graph_def` must be a GraphDef proto."),
        ({"input_map": [1]}, TypeError, "Argument `input_map` must be a dictionary. Obtained list"),
        ({"input_map": {1: 2}}, TypeError, "All keys for argument `input_map` must be strings."),
        ({"return_elements": [1]}, TypeError, "`return_elements` must be a list of strings."),
        ({"return_elements": ["z"]}, ValueError, "Requested return node 'z' not found in graph"),
        ({"return_elements": ["z:0"]}, ValueError, "Requested return tensor 'z:0' not found in"),
        ({"return_elements": ["x:4"]}, ValueError, "Invalid return output 4 of node 'x', which"),
        ({"return_elements": ["x:a"]}, ValueError, "Second component of the name following the"),
        ({"return_elements": ["x:1:2"]}, ValueError, "should not contain more than 1 `:`"),
        (
            {"input_map": {"z:0": 1.0}},
            ValueError,
            "Attempted to map inputs that were not found in graph_def: [z:0]",
        ),
        ({"input_map": {"x": 1.0}, "name": ""}, ValueError, "requires a non-empty `name` if"),
    ],
)
def test_bad_arguments(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"graph_def": parsed(X), **keywords}
    with pytest.raises(error) as caught:
        tf.import_graph_def(**arguments)
    assert message in str(caught.value)


def test_tensors_of_another_graph_are_refused() -> None:
    with tf.Graph().as_default():
        other = tf.constant(1.0)
    with pytest.raises(ValueError, match="node 'Const' in input_map does not exist in graph"):
        imported(X, input_map={"x:0": other})


def test_everything_that_is_missing_is_listed() -> None:
    text = X + "".join(node(f"f{i}", "Frob", "x") for i in range(7))
    text += node("call", "PartitionedCall", "x", attr="") + node("y", "Neg", "x")
    with pytest.raises(NotFoundError) as caught:
        imported(text)
    message = str(caught.value)
    assert "Op type not registered 'Frob', 'PartitionedCall'" in message
    assert "\n* Frob (7: f0, f1, f2, f3, f4, ...)\n* PartitionedCall (1: call)" in message
    assert not tf.get_default_graph().get_operations()


def test_a_python_function_of_another_process() -> None:
    text = X + """node { name: "p" op: "PyFunc" input: "x" attr { key: "token" value { s: "far" } }
      attr { key: "Tin" value { list { type: DT_FLOAT } } }
      attr { key: "Tout" value { list { type: DT_FLOAT } } } }"""
    (p,) = tf.import_graph_def(parsed(text), return_elements=["p:0"])
    said = "ValueError: Could not find callback with key=far in the registry."
    with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError, match=said):
        session.run(p, {"import/x:0": [1.0]})


# ---- files that nobody should trust --------------------------------------------------------------
def test_one_value_for_all_stays_one_value() -> None:
    text = constant("dtype: DT_FLOAT tensor_shape { dim { size: 500000000 } } float_val: 2")
    message = parsed(text)
    tracemalloc.start()
    (c,) = tf.import_graph_def(message, return_elements=["c:0"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (c.shape, peak < 2**22) == ([500_000_000], True)
    with tf.Session() as session:
        assert session.run(c[:3]).tolist() == [2.0, 2.0, 2.0]


def test_constants_share_the_room() -> None:
    text = constant("dtype: DT_FLOAT tensor_shape { dim { size: 300000000 } } float_val: 2")
    with pytest.raises(ValueError, match="constants of a GraphDef at most"):
        imported(text + text.replace('"c"', '"d"'))


@pytest.mark.parametrize(
    ("text", "dtype", "wanted"),
    [
        ("dim { size: 3 } } int_val: 1 int_val: 2", "DT_INT16", [1, 2, 2]),
        ("dim { size: 2 } } float_val: 1 float_val: 2 float_val: 3", "DT_FLOAT", [1, 2]),
        ("dim { size: 2 } }", "DT_BOOL", [False, False]),
        ("dim { size: 2 } } half_val: 15360 half_val: 49152", "DT_HALF", [1, -2]),
        ("dim { size: 2 } } half_val: 16256", "DT_BFLOAT16", [1, 1]),
        ("dim { size: 2 } } scomplex_val: 1 scomplex_val: 2", "DT_COMPLEX64", [1 + 2j, 1 + 2j]),
        ('dim { size: 2 } } string_val: "a"', "DT_STRING", [b"a", b"a"]),
        ("dim { size: 1 } } uint64_val: 18446744073709551615", "DT_UINT64", [2**64 - 1]),
        ("dim { size: 0 } }", "DT_DOUBLE", []),
    ],
)
def test_values_of_tensors(text: str, dtype: str, wanted: list[Any]) -> None:
    message = constant(f"dtype: {dtype} tensor_shape {{ {text}", dtype)
    (c,) = imported(message, return_elements=["c:0"])
    with tf.Session() as session:
        assert session.run(c).tolist() == wanted
    again = tf.get_default_graph().as_graph_def()
    assert tensors.read_tensor(again.node[0].attr["value"].tensor).tolist() == wanted


@pytest.mark.parametrize("name", ["perceptron", "convolution", "strings"])
def test_truncated_files(name: str) -> None:
    data = (DATA / f"{name}.pb").read_bytes()
    for end in range(0, len(data), max(1, len(data) // 40)):
        _try(data[:end])


def _try(data: bytes) -> None:
    """Parse and import, and export what came: errors are those that callers expect."""
    message = tf.GraphDef()
    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError):  # the latter from protobuf written in Python
        return
    with tf.Graph().as_default() as graph:
        try:
            tf.import_graph_def(message, name="")
        except (ValueError, NotFoundError):
            return
        graph.as_graph_def()


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(path.stem for path in DATA.glob("*.pb"))),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
    ),
)
def test_changed_bytes(name: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray((DATA / f"{name}.pb").read_bytes())
    for place, byte in changes:
        data[int(place * len(data))] = byte
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stepforge.frontend.graphdef.reading.MAX_BYTES", 2**24)
        _try(bytes(data))


@settings(max_examples=100, deadline=None)
@given(
    types=st.lists(st.sampled_from(["Neg", "Add", "Split", "Const", "ConcatV2", "Assert", "Frob"])),
    inputs=st.lists(st.sampled_from(["n0", "n1:1", "^n2", "n3", "", "^", ":0", "n0:-1", "^n0:0"])),
    value=st.sampled_from(["i: -1", "i: 9", "type: DT_FLOAT", "list {}", "s: '\\377'", "shape {}"]),
    key=st.sampled_from(["T", "N", "num_split", "value", "_class", "_other", "dtype"]),
)
def test_made_up_nodes(types: list[str], inputs: list[str], value: str, key: str) -> None:
    text = "".join(
        node(f"n{i}", type_, *inputs[i : i + 3], attr=attribute(key, value))
        for i, type_ in enumerate(types)
    )
    _try(parsed(text).SerializeToString())


def test_deep_text_and_deep_bytes() -> None:
    deep = 'func { attr { key: "a" value { ' * 2000
    text = f'node {{ name: "x" op: "NoOp" attr {{ key: "a" value {{ {deep}'
    with pytest.raises((text_format.ParseError, RecursionError)):
        parsed(text)
    data = b""
    for _ in range(2000):  # AttrValue.list.func.attr.value ...: field and length, from the inside
        data = b"\x0a" + bytes([len(data)]) + data if len(data) < 100 else data
    _try(b"\x0a\x7f" + data)


@pytest.mark.parametrize("text", ["", 'syntax = "proto2";', 'syntax = "proto3"; package a; %'])
def test_a_broken_proto_file(text: str) -> None:
    with pytest.raises(SyntaxError):
        file_descriptor(text, "a.proto")


def test_a_type_that_no_proto_file_defines() -> None:
    text = 'syntax = "proto3"; package a; message B { C c = 1; }'
    with pytest.raises(SyntaxError, match="has no type 'C'"):
        file_descriptor(text, "a.proto")


def test_arrays_keep_their_bytes() -> None:
    message = tf.GraphDef().node.add().attr["value"].tensor
    for array in (np.arange(6, dtype=np.int16).reshape(2, 3), np.zeros((0, 3), np.float32)):
        message.Clear()
        tensors.fill_tensor(message, array, "i16" if array.size else "f32")
        assert tensors.read_tensor(message).tobytes() == array.tobytes()
