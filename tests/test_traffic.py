"""What a step reads, writes and computes: counted by hand for steps that are small enough."""

from __future__ import annotations

import pytest

from stepforge.ir.parser import parse_function
from stepforge.passes.lower import lower
from stepforge.passes.manager import run_passes
from stepforge.passes.order import ORDER
from stepforge.passes.traffic import Traffic, traffic_of_loops, traffic_of_tensors

SIZES = {"n": 100, "m": 30}


def loops(body: str, params: str, results: str, head: str = "") -> Traffic:
    function = parse_function(f"{head}\nfunc @f({params}) -> {results} {{\n{body}\n}}")
    fused = run_passes(function, [*ORDER["tensor"], *ORDER["fusion"]])
    lowered = run_passes(lower(fused).function, ORDER["loops"])
    return traffic_of_loops(lowered, SIZES)


def test_a_map_reads_and_writes_once() -> None:
    found = loops(
        "%0 = mul(%x, %y) : f32[n, m]\n%1 = add(%0, %x) : f32[n, m]\n%2 = exp(%1) : f32[n, m]\n"
        "return(%2)",
        "%x: f32[n, m], %y: f32[m]", "f32[n, m]",
    )
    assert (found.read, found.written) == (4 * 3000 + 4 * 30, 4 * 3000)
    assert found.flops == {"f32": 3000 * (2 + 8)}
    assert found.complete
    assert not found.shared


def test_dtypes_are_told_apart_and_integers_are_no_flops() -> None:
    found = loops(
        '%0 = mul(%x, %x) : f64[n]\n%1 = add(%k, %k) : i32[n]\nreturn(%0, %1)',
        "%x: f64[n], %k: i32[n]", "f64[n], i32[n]",
    )
    assert found.flops == {"f64": 100}
    assert (found.read, found.written) == (1200, 1200)


def test_a_reduction_writes_what_is_left() -> None:
    found = loops(
        '%0 = reduce_sum(%x, axes=[1]) : f32[n]\nreturn(%0)', "%x: f32[n, m]", "f32[n]"
    )
    assert (found.read, found.written) == (12000, 400)
    assert 3000 <= found.flops["f32"] <= 3200


def test_rows_that_stay_in_a_nest_do_not_count() -> None:
    found = loops("%0 = softmax(%x) : f32[n, 30]\nreturn(%0)", "%x: f32[n, 30]", "f32[n, 30]")
    assert (found.read, found.written) == (12000, 12000)


def test_an_update_in_place_reads_first() -> None:
    found = loops(
        "%0 = read(@w) : f32[500]\n%1 = sub(%0, %g) : f32[500]\nwrite(@w, %1)\nreturn(%g)",
        "%g: f32[500]", "f32[500]", "variable @w: f32[500]",
    )
    assert (found.read, found.written) == (2000 + 2000, 2000 + 2000)  # g is a result too


def test_a_matrix_product_and_what_follows_it() -> None:
    found = loops(
        "%0 = matmul(%x, %w) : f32[n, 8]\n%1 = add(%0, %b) : f32[n, 8]\nreturn(%1)",
        "%x: f32[n, m], %w: f32[m, 8], %b: f32[8]", "f32[n, 8]",
    )
    assert (found.read, found.written) == (4 * (3000 + 240 + 8), 3200)
    assert found.flops == {"f32": 2 * 100 * 30 * 8 + 800}


def test_a_convolution() -> None:
    found = loops(
        '%0 = conv2d(%x, %w, low=[1, 1], size=[8, 8]) : f32[n, 8, 8, 4]\nreturn(%0)',
        "%x: f32[n, 8, 8, 3], %w: f32[3, 3, 3, 4]", "f32[n, 8, 8, 4]",
    )
    assert found.flops == {"f32": 2 * 100 * 64 * 27 * 4}
    assert (found.read, found.written) == (4 * (100 * 192 + 108), 4 * 100 * 256)


def test_a_gather_reads_what_it_takes() -> None:
    found = loops(
        "%0 = gather(%t, %k) : f32[m]\nreturn(%0)", "%t: f32[1000000], %k: i32[m]", "f32[m]"
    )
    assert (found.read, found.written) == (4 * 30 + 4 * 30, 120)


@pytest.mark.parametrize(("n", "shared"), [(100, False), (10_000_000, True)])
def test_large_nests_are_shared(n: int, shared: bool) -> None:
    found = loops(
        f"%0 = exp(%x) : f32[{n}]\nreturn(%0)", f"%x: f32[{n}]", f"f32[{n}]"
    )
    assert found.shared == shared


def test_what_the_evaluator_does() -> None:
    function = parse_function(
        "func @f(%x: f32[n, m], %u: f32[*]) -> f32[n, m], f32[*] {\n"
        "%0 = mul(%x, %x) : f32[n, m]\n%1 = exp(%u) : f32[*]\nreturn(%0, %1)\n}"
    )
    found = traffic_of_tensors(function, SIZES)
    assert (found.read >= 24000, found.written, found.flops) == (True, 12000, {"f32": 3000})
    assert not found.complete
