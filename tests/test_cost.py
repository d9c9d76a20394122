"""The estimate of a step's time: products are counted, also those of convolutions."""

from __future__ import annotations

import pytest
from contract import parse_case
from test_native_contract import compilable

from stepforge.ir.opdef import REGISTRY
from stepforge.passes.cost import CONVOLUTIONS, FLOPS_PER_UNIT, PER_ELEMENT, UNIT, work

# what the nested loops of the definition count: images, windows, taps, channels in, channels out
PRODUCTS = {
    "matmul(f32[64, 50], f32[50, 70])": 64 * 50 * 70,
    "matmul(f32[50, 64], f32[70, 50], transpose_a=true, transpose_b=true)": 64 * 50 * 70,
    "conv2d(f32[8, 20, 21, 5], f32[3, 4, 5, 6])": 8 * 18 * 18 * 3 * 4 * 5 * 6,
    "conv2d_input(f32[8, 18, 18, 6], f32[3, 4, 5, 6], size=[20, 21])": 8 * 18 * 18 * 3 * 4 * 5 * 6,
    "conv2d_filter(f32[8, 20, 21, 5], f32[8, 18, 18, 6], size=[3, 4])": 8 * 18 * 18 * 360,
    "depthwise_conv2d(f32[8, 20, 21, 5], f32[3, 4, 5, 6])": 8 * 18 * 18 * 3 * 4 * 5 * 6,
    "depthwise_conv2d_input(f32[8, 18, 18, 30], f32[3, 4, 5, 6], size=[20, 21])": 8 * 324 * 360,
    "depthwise_conv2d_filter(f32[8, 20, 21, 5], f32[8, 18, 18, 30], size=[3, 4], "
    "multiplier=6)": 8 * 324 * 360,
}


@pytest.mark.parametrize("text", PRODUCTS)
def test_products_are_counted(text: str) -> None:
    function = compilable(parse_case(text))
    assert function is not None
    products = PRODUCTS[text] * 2 // FLOPS_PER_UNIT // UNIT
    results = sum(r.type.size for r in function.results) * PER_ELEMENT // UNIT  # returned
    assert work(function) in (products + results, products + results + 1)


def test_every_convolution_is_known() -> None:
    assert sorted(CONVOLUTIONS) == sorted(name for name in REGISTRY if "conv2d" in name or
                                          "conv3d" in name)
