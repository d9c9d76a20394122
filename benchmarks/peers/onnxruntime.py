"""onnxruntime: each step a graph of its operators, weights among its constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from cases import Array, Arrays, Step

OPSET, IR_VERSION = 18, 9
FLOAT = TensorProto.FLOAT


class Network:
    """A graph that is being written: operators are called by name and return their output."""

    def __init__(self, inputs: dict[str, Sequence[int | None]]) -> None:
        self.inputs = inputs
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, value: Any) -> str:
        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def __call__(self, operator: str, *operands: str, **attributes: Any) -> str:
        name = f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(operands), [name], **attributes))
        return name

    def run(self, *outputs: str) -> Callable[..., list[Array]]:
        """The graph as a function of its inputs, on one thread."""
        inputs = [helper.make_tensor_value_info(n, FLOAT, s) for n, s in self.inputs.items()]
        results = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
        graph = helper.make_graph(self._nodes, "step", inputs, results, self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        call, wanted, names = session.run, list(outputs), list(self.inputs)
        return lambda *values: call(wanted, dict(zip(names, values, strict=True)))


def network(arrays: Arrays, *names: str) -> Network:
    """A graph over inputs of these names, the number of rows unknown."""
    return Network({name: (None, *arrays[name].shape[1:]) for name in names})


def finish(built: Network, arrays: Arrays, *outputs: str) -> Step:
    return Step(built.run(*outputs), tuple(arrays[name] for name in built.inputs))


# ---- over rows ----------------------------------------------------------------------------------
def softmax(a: Arrays) -> Step:
    op = network(a, "x")
    return finish(op, a, op("Softmax", "x", axis=-1))


def softmax_gradient(a: Arrays) -> Step:
    op = network(a, "x", "dy")
    y = op("Softmax", "x", axis=-1)
    product = op("ReduceSum", op("Mul", "dy", y), op.constant(np.array([1])), keepdims=1)
    return finish(op, a, op("Mul", op("Sub", "dy", product), y))


def logsumexp(a: Arrays) -> Step:
    op = network(a, "x")
    return finish(op, a, op("ReduceLogSumExp", "x", op.constant(np.array([1])), keepdims=0))


def logsumexp_gradient(a: Arrays) -> Step:
    op = network(a, "x", "dy")
    column = op("Unsqueeze", "dy", op.constant(np.array([1])))
    return finish(op, a, op("Mul", op("Softmax", "x", axis=-1), column))


def layer_norm(a: Arrays) -> Step:
    op = network(a, "x")
    scale, shift = op.constant(a["scale"]), op.constant(a["shift"])
    return finish(op, a, op("LayerNormalization", "x", scale, shift, axis=-1, epsilon=1e-5))


def layer_norm_gradient(a: Arrays) -> Step:
    op = network(a, "x", "dy")
    rows, columns = op.constant(np.array([0])), op.constant(np.array([1]))
    centered = op("Sub", "x", op("ReduceMean", "x", columns, keepdims=1))
    variance = op("ReduceMean", op("Mul", centered, centered), columns, keepdims=1)
    deviation = op("Sqrt", op("Add", variance, op.constant(np.float32(1e-5))))
    normal = op("Div", centered, deviation)
    force = op("Mul", "dy", op.constant(a["scale"]))
    mean = op("ReduceMean", force, columns, keepdims=1)
    product = op("ReduceMean", op("Mul", force, normal), columns, keepdims=1)
    rest = op("Sub", op("Sub", force, mean), op("Mul", normal, product))
    dscale = op("ReduceSum", op("Mul", "dy", normal), rows, keepdims=0)
    dshift = op("ReduceSum", "dy", rows, keepdims=0)
    return finish(op, a, op("Div", rest, deviation), dscale, dshift)


# ---- networks -----------------------------------------------------------------------------------
def dense(op: Network, x: str, weights: Array, bias: Array) -> str:
    return op("Gemm", x, op.constant(weights), op.constant(bias))


def forward(a: Arrays) -> Step:
    op = network(a, "x")
    value = "x"
    for place in range(2):
        value = op("Relu", dense(op, value, a[f"w{place}"], a[f"b{place}"]))
    return finish(op, a, dense(op, value, a["w2"], a["b2"]))


def conv_net(a: Arrays) -> Step:
    """Channels come first here: weights are turned when the graph is made, the image is one."""
    op = network(a, "x")
    value = op("Reshape", "x", op.constant(np.array([-1, 1, 28, 28])))
    for place in range(2):
        kernel = op.constant(a[f"w{place}"].transpose(3, 2, 0, 1))
        bias = op.constant(a[f"b{place}"])
        value = op("Relu", op("Conv", value, kernel, bias, pads=[2, 2, 2, 2]))
        value = op("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
    value = op("Reshape", value, op.constant(np.array([-1, 64 * 7 * 7])))
    turned = a["w2"].reshape(7, 7, 64, -1).transpose(2, 0, 1, 3).reshape(64 * 7 * 7, -1)
    value = op("Relu", dense(op, value, turned, a["b2"]))
    return finish(op, a, dense(op, value, a["w3"], a["b3"]))


STEPS: dict[str, Callable[[Arrays], Step]] = {
    "normalisation.softmax": softmax,
    "normalisation.softmax_gradient": softmax_gradient,
    "normalisation.logsumexp": logsumexp,
    "normalisation.logsumexp_gradient": logsumexp_gradient,
    "normalisation.layer_norm": layer_norm,
    "normalisation.layer_norm_gradient": layer_norm_gradient,
    "perceptron.forward": forward,
    "convolution.conv_net": conv_net,
}


def step(kind: str, arrays: Arrays) -> Step:
    return STEPS[kind](arrays)
