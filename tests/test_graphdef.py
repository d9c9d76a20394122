"""GraphDefs that TensorFlow wrote run here, and ours are the same nodes; freezing; files.

``tests/data/graphdefs`` holds what TensorFlow wrote and computed for ``graphdefs/programs.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from graphdefs.programs import PROGRAMS, numbers

import stepforge as tf
from stepforge.frontend.graphdef.signatures import signature
from stepforge.frontend.nodedefs.base import NODES, lookup_node

DATA = Path(__file__).parent / "data" / "graphdefs"
STATEFUL = ("counters", "training")  # exchanged whole, run three times
# What stands for several nodes of TensorFlow, for a cond, and for a function of the user.
OWN_TYPES = {
    *("ExpandReduced", "GatherGrad", "InitializedValue", "NumbaOp", "SliceGrad"),
    *("SumToLike", "SumToShape"),
}
# Attributes that TensorFlow 1 did not have; left out, they are the default.
NEWER = {"grad_a", "grad_b", "grad_x", "grad_y", "incompatible_shape_error"}


pytestmark = pytest.mark.usefixtures("own_graph")


def recorded(name: str) -> Any:
    message = tf.GraphDef()
    message.ParseFromString((DATA / f"{name}.pb").read_bytes())
    return message


def built(name: str) -> tuple[Any, dict[str, Any], list[str]]:
    """What stepforge writes for a program, and its feeds and fetches by name."""
    with tf.Graph().as_default() as graph:
        feeds, fetches = PROGRAMS[name](tf)
        names = [tensor.name for tensor in fetches]
        tf.global_variables_initializer()
        message = graph.as_graph_def()
        if name not in STATEFUL:
            with tf.Session() as session:
                session.run("init")
                nodes = [name.partition(":")[0] for name in names]
                message = tf.graph_util.convert_variables_to_constants(session, message, nodes)
        return message, {tensor.name: value for tensor, value in feeds.items()}, names


def computed(message: Any, name: str, feeds: Any, fetches: list[str]) -> list[Any]:
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(message, name="")
        if name not in STATEFUL:
            return session.run(fetches, feeds)
        session.run("init")
        return [value for _ in range(3) for value in session.run(fetches, feeds)]


def assert_close(found: list[Any], wanted: list[Any]) -> None:
    for a, b in zip(map(np.asarray, found), map(np.asarray, wanted), strict=True):
        a = a.astype(bytes) if a.dtype == object else a
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if b.dtype.kind == "S":
            assert (a == b).all()
        else:
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_tensorflow_wrote_gives_its_values(name: str) -> None:
    ours, feeds, fetches = built(name)
    values = np.load(DATA / "values.npz")
    wanted = [values[key] for key in values if key.startswith(f"{name}/")]
    assert_close(computed(recorded(name), name, feeds, fetches), wanted)
    assert_close(computed(ours, name, feeds, fetches), wanted)


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - set(STATEFUL)))
def test_frozen_nodes_are_those_of_tensorflow(name: str) -> None:
    ours, _, _ = built(name)
    mine = {node.name: node for node in ours.node}
    theirs = {node.name: node for node in recorded(name).node}
    assert list(mine) == list(theirs)
    for key, node in mine.items():
        other = theirs[key]
        assert (node.op, node.input, node.device) == (other.op, other.input, other.device)
        wanted = {name: other.attr[name] for name in other.attr if not name.startswith("_")}
        given = {name: node.attr[name] for name in node.attr if not name.startswith("_")}
        assert given == {name: wanted[name] for name in given}, key
        assert wanted.keys() - given.keys() <= NEWER


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_imported_graph_exports_as_it_came(name: str) -> None:
    message, _, _ = built(name)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(message, name="")
        found = {node.name: node for node in graph.as_graph_def().node}
        assert found == {node.name: node for node in message.node}


def test_every_node_type_has_a_signature() -> None:
    with pytest.raises(ValueError, match="Op type not registered"):
        lookup_node("NoSuchNode")  # looking for it imports all modules of node types
    missing = {name for name in NODES if signature(name) is None}
    assert missing == OWN_TYPES, "run tests/data/make_signatures.py"


def test_gradients_are_written_as_nodes_of_tensorflow() -> None:
    x = tf.placeholder(tf.float32, [3, 4], "x")
    y = tf.reduce_mean(tf.slice(x, [1, 0], [2, 3]) + tf.ones([1, 3]) * x[:1, 1:], 1)
    y = tf.gather(y, [0, 1, 1]) * tf.reduce_sum(tf.gather(x, [[0, 2]], axis=1), keepdims=True)
    gradient = tf.gradients(y, x)[0]
    message = tf.get_default_graph().as_graph_def()
    assert not OWN_TYPES & {node.op for node in message.node}
    assert {"BroadcastGradientArgs", "UnsortedSegmentSum"} <= {node.op for node in message.node}
    feeds = {"x:0": numbers(3, 4)}
    with tf.Session() as session:
        wanted = session.run(gradient, feeds)
    assert_close(computed(message, "", feeds, [gradient.name]), [wanted])


@pytest.mark.parametrize("size", [1, 4])
def test_axes_of_broadcasting_follow_the_sizes_fed(size: int) -> None:
    text = """
    node { name: "x" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } }
    node { name: "s" op: "Shape" input: "x" attr { key: "T" value { type: DT_FLOAT } } }
    node { name: "c" op: "Const" attr { key: "dtype" value { type: DT_INT32 } }
           attr { key: "value" value { tensor { dtype: DT_INT32 tensor_shape { dim { size: 2 } }
                                                int_val: 4 } } } }
    node { name: "a" op: "BroadcastGradientArgs" input: "s" input: "c"
           attr { key: "T" value { type: DT_INT32 } } }
    """
    tf.import_graph_def(text_format.Parse(text, tf.GraphDef()), name="")
    with tf.Session() as session:
        found = session.run(["a:0", "a:1"], {"x:0": np.zeros((size, 4), np.float32)})
        assert [list(axes) for axes in found] == [[0] if size == 1 else [], []]


# ---- nodes as data -------------------------------------------------------------------------------
def test_a_node_as_data() -> None:
    x = tf.placeholder(tf.float32, [None, 2], "x")
    with tf.device("/cpu:0"), tf.control_dependencies([tf.no_op("first")]):
        y = tf.concat([x, x], axis=1, name="y")
    node = y.op.node_def
    assert isinstance(node, tf.NodeDef)
    assert (node.name, node.op, node.device) == ("y", "ConcatV2", "/device:CPU:0")
    assert list(node.input) == ["x", "x", "y/axis"]
    assert list(y.op.inputs[2].op.node_def.input) == ["^first"]
    assert (node.attr["N"].i, node.attr["T"].type, node.attr["Tidx"].type) == (2, 1, 3)
    assert str(y.op) == str(node)
    assert tf.compat.v1.AttrValue(b=True).b


def test_get_attr_gives_what_inputs_tell() -> None:
    x = tf.placeholder(tf.float32, [1, 5, 5, 2], "x")
    op = tf.nn.conv2d(x, numbers(3, 3, 2, 1), strides=[1, 1, 1, 1], padding="SAME").op
    assert op.get_attr("T") is tf.float32
    assert (op.get_attr("padding"), op.get_attr("strides")) == (b"SAME", [1, 1, 1, 1])
    assert x.op.get_attr("shape") == tf.TensorShape([1, 5, 5, 2])
    assert tf.stack([x, x]).op.get_attr("N") == 2
    with pytest.raises(ValueError, match="has no attr named 'U'"):
        op.get_attr("U")


def test_parts_of_a_graph_and_shapes() -> None:
    graph = tf.get_default_graph()
    x = tf.placeholder(tf.float32, [None, 2], "x")
    version = graph.version
    tf.identity(x, "y")
    assert [node.name for node in graph.as_graph_def(from_version=version).node] == ["y"]
    (_, node) = graph.as_graph_def(add_shapes=True).node
    sizes = [dim.size for dim in node.attr["_output_shapes"].list.shape[0].dim]
    assert sizes == [-1, 2]
    with tf.Session() as session:
        assert session.graph_def == graph.as_graph_def()


@pytest.mark.parametrize("text", [True, False])
def test_files(tmp_path: Path, text: bool) -> None:
    tf.constant([1.5, 2.5], name="c")
    graph = tf.get_default_graph()
    path = Path(tf.train.write_graph(graph, str(tmp_path / "new"), "g", as_text=text))
    if text:
        found = text_format.Parse(path.read_text(), tf.GraphDef())
    else:
        found = tf.GraphDef.FromString(path.read_bytes())
    assert found == graph.as_graph_def()
    assert tf.io.write_graph(found, tmp_path, "again") == str(tmp_path / "again")


# ---- freezing ------------------------------------------------------------------------------------
def test_freezing_some_variables() -> None:
    a = tf.get_variable("a", initializer=[1.0, 2.0])
    b = tf.get_variable("b", initializer=[3.0, 4.0], use_resource=True)
    y = tf.add(tf.gather(a, [1]), tf.gather(b, [0]), name="y")
    freeze = tf.graph_util.convert_variables_to_constants
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run([a.assign([5.0, 6.0]), b.assign([7.0, 8.0])])
        assert session.run(y).tolist() == [13.0]
        frozen = freeze(session, session.graph_def, ["y"])
        only_a = freeze(session, session.graph_def, ["y"], variable_names_whitelist=["a"])
        but_a = freeze(session, session.graph_def, ["y"], variable_names_blacklist=["a"])
    assert computed(frozen, "", {}, ["y:0"])[0].tolist() == [13.0]
    assert not {"VariableV2", "VarHandleOp"} & {node.op for node in frozen.node}
    kinds = [{node.name: node.op for node in message.node} for message in (only_a, but_a)]
    assert [(kind["a"], kind["b"]) for kind in kinds] == [
        ("Const", "VarHandleOp"),
        ("VariableV2", "Const"),
    ]


def test_parts_of_a_graph_def() -> None:
    x = tf.placeholder(tf.float32, [2], "x")
    checked = tf.check_numerics(tf.identity(x, "copy"), "bad", name="checked")
    tf.exp(checked, "y")
    tf.exp(x, "other")
    message = tf.get_default_graph().as_graph_def()
    part = tf.graph_util.extract_sub_graph(message, ["y"])
    assert [node.name for node in part.node] == ["x", "copy", "checked", "y"]
    short = tf.graph_util.remove_training_nodes(part)
    assert [(node.name, list(node.input)) for node in short.node] == [("x", []), ("y", ["x"])]
    kept = tf.graph_util.remove_training_nodes(part, ["copy"])
    assert [node.name for node in kept.node] == ["x", "copy", "y"]
    with pytest.raises(AssertionError, match="z is not in graph"):
        tf.graph_util.extract_sub_graph(message, ["z"])
    with pytest.raises(TypeError, match="dest_nodes must be an iterable of strings"):
        tf.graph_util.extract_sub_graph(message, "y")
    with pytest.raises(TypeError, match=r"graph_def must be a graph_pb2\.GraphDef proto"):
        tf.graph_util.extract_sub_graph(3, ["y"])


# ---- protobuf ------------------------------------------------------------------------------------
def run(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
    return json.loads(done.stdout)


def test_protobuf_loads_when_it_is_used() -> None:
    code = """
import json, sys
import stepforge as tf
x = tf.constant(2.0) * 3.0
tf.Session().run(x), x.op.get_attr("T"), tf.import_graph_def
before = "google.protobuf" in sys.modules
tf.get_default_graph().as_graph_def()
print(json.dumps([before, "google.protobuf" in sys.modules]))
"""
    assert run(code) == [False, True]


def test_without_protobuf_an_error_says_what_to_install() -> None:
    code = """
import json, sys
sys.modules["google.protobuf"] = None
import stepforge as tf
x = tf.constant(2.0, name="x")
try:
    tf.get_default_graph().as_graph_def()
except ImportError as error:
    print(json.dumps([str(error), str(x.op)]))
"""
    message, text = run(code)
    assert "pip install protobuf" in message
    assert "'x' type=Const" in text
