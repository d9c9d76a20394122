"""The kernels of convolutions on what the cases of the ops are too small for, against NumPy.

Bands of rows, groups of images, filters laid out by blocks, epilogues, other processors.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import test_op_contract as contract_tests
from contract import Case, inputs, parse_case
from native import NativeModule
from test_native_contract import compilable, symbolic

import stepforge as tf
from stepforge.codegen import target
from stepforge.ir.builder import Builder
from stepforge.ir.core import Block, Const, Operand, Value
from stepforge.ir.errors import IRError
from stepforge.ir.evaluate import evaluate
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import lookup
from stepforge.ir.parser import parse_function
from stepforge.ir.text import print_function
from stepforge.ir.types import Type, index
from stepforge.ir.verify import verify

LARGE = (
    # a row does not fit, bands of rows
    "conv2d(f32[1, 60, 70, 16], f32[3, 3, 16, 3], low=[1, 1], size=[60, 70])",
    "conv2d(f32[2, 61, 50, 24], f32[3, 5, 24, 2], strides=[2, 3], low=[0, 2], size=[30, 17])",
    "conv2d_filter(f32[2, 40, 90, 16], f32[2, 40, 90, 5], low=[1, 2], size=[3, 4])",
    # several images at once
    "conv2d(f32[3, 6, 7, 64], f32[3, 5, 64, 80], low=[1, 1], size=[6, 6])",
    "conv2d_filter(f32[5, 6, 7, 48], f32[5, 6, 7, 48], low=[1, 1], size=[5, 6])",
    # large filters
    "conv2d(f32[2, 3, 3, 256], f32[2, 2, 256, 256], low=[0, 1], size=[2, 3])",
    "conv2d(f64[1, 3, 3, 128], f64[2, 2, 128, 256])",
    "conv2d_input(f32[2, 3, 2, 256], f32[2, 2, 288, 256], low=[0, 1], size=[3, 3])",
    "conv2d_input(f32[1, 3, 3, 160], f32[5, 3, 320, 160], strides=[2, 2], size=[9, 7])",
)


def geometry(seed: int) -> str:
    """A small convolution, or one of its gradients, that nobody chose."""
    draw = random.Random(seed)
    image = [draw.choice((1, 2, 3)), draw.randint(1, 9), draw.randint(1, 31)]
    out = [image[0], draw.randint(1, image[1] + 2), draw.randint(1, image[2] + 2)]
    window = [draw.randint(1, 5), draw.randint(1, 5)]
    depth, channels = draw.choice((1, 2, 3, 17)), draw.choice((1, 3, 16, 31, 33, 49))
    steps = [draw.choice((1, 1, 2, 3)) for _ in range(2)]
    spread = [draw.choice((1, 1, 2)) for _ in range(2)]
    low = [draw.randint(0, 4) for _ in range(2)]
    dtype = draw.choice(("f32", "f32", "f64"))
    shapes = {
        "images": [*image, depth], "filter": [*window, depth, channels],
        "result": [*out, channels],
    }
    op, left, right, size = draw.choice((
        ("conv2d", "images", "filter", out[1:]),
        ("conv2d_input", "result", "filter", image[1:]),
        ("conv2d_filter", "images", "result", window),
    ))
    return (
        f"{op}({dtype}{shapes[left]}, {dtype}{shapes[right]}, strides={steps}, low={low}, "
        f"size={size}, dilations={spread})"
    )


def check(case: Case, module: NativeModule, number: int) -> None:
    """A function of a module gives what the ``numpy`` rule gives, to a few units of the sums."""
    arrays = inputs(case)
    (got,) = module.run(number, arrays)
    assert not isinstance(got, str)
    want = case.defn.numpy(*arrays, **case.all_attrs)  # type: ignore[misc]
    scale = max(float(np.max(np.abs(want), initial=0)), 1e-3)
    tolerance = 5e-6 if want.dtype == np.float32 else 1e-14
    assert np.max(np.abs(got - want), initial=0) <= tolerance * scale, case.text


def check_all(texts: list[str], *, named: bool) -> None:
    """Compile all cases into one module, with known and perhaps with named sizes."""
    cases, functions = [], []
    for case in map(parse_case, texts):
        for variant in (case, symbolic(case)) if named else (case,):
            function = compilable(variant)
            if function is not None:
                cases.append(case)
                functions.append(function)
    module = NativeModule(functions)
    for number, case in enumerate(cases):
        check(case, module, number)


def test_large_shapes() -> None:
    check_all(list(LARGE), named=False)


@pytest.mark.parametrize("seed", range(3))
def test_any_geometry(seed: int) -> None:
    check_all([geometry(1000 * seed + number) for number in range(12)], named=True)


def test_portable_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled for any processor of this architecture: other tiles, other vectors."""
    baseline = target.baseline()
    monkeypatch.setattr(target, "host", lambda: baseline)
    check_all([*LARGE[3:6], *map(geometry, range(6))], named=False)


def test_epilogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """``relu(sum + bias) + x`` as a region, in the kernel and in loops."""

    def lower(
        self: Any, k: LoopBuilder, out: Operand, x: Operand, weights: Operand, **attrs: Any
    ) -> None:
        zero = Const(index, 0)
        bias = k.emit("subview", weights, zero, zero, zero)
        inner = Builder()
        params = [Value(Type(out.type.dtype)) for _ in range(3)]
        positive = inner.emit("relu", inner.emit("add", params[0], params[1]))
        inner.emit("yield", inner.emit("add", positive, params[2]))
        region = Block(tuple(params), tuple(inner.ops))
        self.lower_epilogue(k, out, (x, weights), [bias, x], region, **attrs)

    texts = (
        "conv2d(f32[2, 5, 19, 5], f32[3, 3, 5, 5], low=[1, 1], size=[5, 19])",
        "conv2d(f64[2, 3, 4, 40], f64[1, 1, 40, 40])",
        "conv2d(f16[1, 4, 3, 5], f16[3, 3, 5, 5], low=[1, 1], size=[4, 3])",
    )
    functions = []
    with monkeypatch.context() as patched:
        patched.setattr(type(lookup("conv2d")), "lower", lower)
        for text in texts:
            functions += [compilable(parse_case(text)), compilable(symbolic(parse_case(text)))]
        module = NativeModule([f for f in functions if f is not None])
    for number, text in enumerate(t for t in texts for _ in range(2)):
        case = parse_case(text)
        x, weights = inputs(case)
        (got,) = module.run(number, [x, weights])
        sums = case.defn.numpy(x, weights, **case.all_attrs)  # type: ignore[misc]
        want = np.maximum(sums.astype("f8") + weights[0, 0, 0], 0) + x
        tolerance = {"f16": 4e-3, "f32": 2e-6, "f64": 1e-14}[case.types[0].dtype]
        np.testing.assert_allclose(got.astype("f8"), want, tolerance, tolerance * 40)


def test_the_op_with_a_region_keeps_the_contract() -> None:
    for promise in (
        contract_tests.test_declaration_is_complete,
        contract_tests.test_numpy_rule_gives_the_inferred_types,
        contract_tests.test_symbolic_inference_agrees_with_static_inference,
    ):
        promise("conv2d")


def test_a_region_is_verified_and_evaluated() -> None:
    text = """\
func @f(%x: f32[n, 4, 4, 2], %w: f32[3, 3, 2, 5], %b: f32[5]) -> f32[n, 2, 2, 5] {
  %y = conv2d(%x, %w, %b) : f32[n, 2, 2, 5] |%acc: f32, %p: f32| {
    %0 = add(%acc, %p) : f32
    yield(%0)
  }
  return(%y)
}
"""
    function = parse_function(text)
    verify(function)
    assert print_function(function) == text
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=n).astype("f") for n in ((1, 4, 4, 2), (3, 3, 2, 5), (5,))]
    (got,) = evaluate(function, arrays)
    sums = lookup("conv2d").numpy(  # type: ignore[misc]
        *arrays[:2], strides=(), low=(), size=(), dilations=()
    )
    np.testing.assert_allclose(got, sums + arrays[2], 1e-6)
    with pytest.raises(IRError, match="does not broadcast"):
        verify(parse_function(text.replace("%b: f32[5]", "%b: f32[4]")))
    with pytest.raises(IRError, match="the region takes"):
        verify(parse_function(text.replace(", %p: f32|", "|").replace("%acc, %p", "%acc, %acc")))


def gradients_by(threads: int, shape: tuple[int, ...], kernel: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(0)
    value, weight = (rng.normal(size=s).astype(np.float32) for s in (shape, kernel))
    with tf.Graph().as_default():
        images, filters = tf.placeholder(tf.float32, shape), tf.placeholder(tf.float32, kernel)
        made = tf.nn.conv2d(images, filters, 1, "SAME")
        slopes = tf.gradients(tf.square(made), [images, filters])
        config = tf.ConfigProto(intra_op_parallelism_threads=threads)
        with tf.Session(config=config) as session:
            return session.run([made, *slopes], {images: value, filters: weight})  # type: ignore


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [((5, 28, 27, 16), (5, 5, 16, 32)), ((7, 6, 7, 64), (3, 3, 64, 128))],
    ids=["rows", "images"],
)
def test_threads_change_no_bit(shape: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    alone, shared = (gradients_by(threads, shape, kernel) for threads in (1, 0))
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, other)
