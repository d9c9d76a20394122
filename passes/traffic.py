"""What a step reads, writes and computes, in numbers: what its speed is judged by.

Counted is what its kernels do once all fusion is done: a nest of loops reads and writes every
buffer that it uses once, however often it comes back to an element; buffers of its own do not
count, nor does reading what it has just written. Loads by computed indices count as often as they
happen. Flops are operations on floats: a matrix product has two for each pair that it multiplies, a
function such as ``exp`` as many as ``cost.PER_FUNCTION``, and comparisons, choices and conversions
none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field

from stepforge.ir import dims
from stepforge.ir.core import Block, Function, Operand, Operation
from stepforge.ir.records import record
from stepforge.ir.types import NUMERIC, Type, item_bytes
from stepforge.passes import cost
from stepforge.passes.loop_accesses import SOURCES, Roots

# Operations on floats that compute nothing.
_FREE = frozenset(
    ["select", "cast", "from_index", "load", "bitcast", "identity", "copysign", "is_nan", "is_inf",
     "is_finite", "fill", "broadcast_to", "reshape", "transpose", "slice", "concat", "gather"]
)  # fmt: skip
# Operations on buffers that move nothing.
_STILL = frozenset((*SOURCES, "subview", "rows", "new_slot", "new_result", "commit", "fail_unless"))
# Operations on buffers: the number of the operand that they fill.
_FILLS = {
    "gemm": 2, "conv": 2, "conv_filter": 2, "copy": 1, "transpose_matrix": 1, "philox": 1,
}  # fmt: skip
_SHARED_FLOPS = 6_400_000  # of a product that is shared out among threads: 100 us, see ``cost``
_SHARED_WORK = 100_000  # nanoseconds of a nest that is


@record
class Traffic:
    """Bytes ``read`` and ``written``, and ``flops`` by dtype.

    ``shared`` says that threads share some of it; ``host_calls`` are done by NumPy. ``complete`` is
    False where sizes that only the run tells leave something out.
    """

    read: int = 0
    written: int = 0
    flops: dict[str, int] = field(default_factory=dict)
    host_calls: int = 0
    shared: bool = False
    complete: bool = True

    @property
    def bytes(self) -> int:
        """Bytes moved."""
        return self.read + self.written

    @property
    def all_flops(self) -> int:
        """Flops of all dtypes."""
        return sum(self.flops.values())

    @contextmanager
    def known_sizes(self) -> Iterator[None]:
        """Leave out the rest of a block that needs a size that only the run tells."""
        try:
            yield
        except KeyError:
            self.complete = False

    def compute(self, dtype: str, flops: int) -> None:
        """Add flops."""
        if flops:
            self.flops[dtype] = self.flops.get(dtype, 0) + flops


def traffic_of_loops(function: Function, sizes: Mapping[str, int]) -> Traffic:
    """What a function of the loop level moves and computes where its names have ``sizes``."""
    counted = Traffic()
    roots = Roots(function.body.ops)
    for op in function.body.ops:
        if op.name not in _STILL:
            _Nest(counted, roots, sizes).count(op)
    return counted


def traffic_of_tensors(function: Function, sizes: Mapping[str, int]) -> Traffic:
    """The same for a tensor-level function that is evaluated: each operation reads its operands
    and writes its results.
    """
    counted = Traffic()
    for op in function.body.ops:
        with counted.known_sizes():
            counted.read += sum(_bytes(operand, sizes) for operand in op.operands)
            counted.written += sum(_bytes(result, sizes) for result in op.results)
            _tensor_flops(counted, op, sizes)
    return counted


def _tensor_flops(counted: Traffic, op: Operation, sizes: Mapping[str, int]) -> None:
    dtype = _dtype(op.results[0]) if op.results else ""
    if not _is_float(dtype):
        return
    if op.name == "matmul" or op.name in cost.CONVOLUTIONS:
        counted.compute(dtype, 2 * dims.evaluate(cost.products(op), sizes))
    elif op.name in ("fused", "reduce"):
        turns = math.prod(dims.evaluate(n, sizes) for n in op.attr("shape"))
        counted.compute(dtype, turns * _weight(op.regions[0]))
    elif op.name not in _FREE and op.defn.scalar is not None:
        counted.compute(dtype, dims.evaluate(op.result.type.size, sizes) * cost.length(op))


# ---- loops ---------------------------------------------------------------------------------------


class _Nest:
    """Counts one operation of a function's body with all that is inside."""

    def __init__(self, counted: Traffic, roots: Roots, sizes: Mapping[str, int]) -> None:
        self._counted, self._roots = counted, roots
        self._sizes = dict(sizes)
        self._moved: dict[tuple[Operand, bool], int] = {}
        self._own: set[Operand] = set()  # buffers that live inside

    def count(self, op: Operation) -> None:
        """Add what ``op`` does."""
        with self._counted.known_sizes():
            self._visit(op, 1)
        for (root, writes), moved in self._moved.items():
            if root in self._own:
                continue
            moved = min(moved, self._size_of(root, moved))
            if writes:
                self._counted.written += moved
            else:
                self._counted.read += moved

    def _visit(self, op: Operation, turns: int) -> None:
        if op.name == "alloc":
            self._own.add(op.result)
        elif op.name == "for":
            self._loop(op, turns)
        elif op.name in ("load", "store"):
            buffer = op.operands[0 if op.name == "load" else 1]
            self._move(buffer, op.name == "store", turns * item_bytes(buffer.type.dtype))
        elif op.name in _STILL:
            return
        elif any(getattr(o.type, "buffer", False) for o in op.operands):
            self._kernel(op, turns)
        elif op.results and _is_float(_dtype(op.results[0])) and op.name not in _FREE:
            self._counted.compute(op.result.type.dtype, turns * cost.length(op))

    def _loop(self, op: Operation, turns: int) -> None:
        low, high = self._size(op.attr("low")), self._size(op.attr("high"))
        inside = turns * max(0, -(-(high - low) // op.attr("step")))
        if op.attr("binds"):
            self._sizes[op.attr("binds")] = (low + high) // 2  # of all turns, on average
        if op.attr("parallel") and self._size(op.attr("work")) >= _SHARED_WORK:
            self._counted.shared = True
        for inner in op.regions[0].ops:
            self._visit(inner, inside)

    def _kernel(self, op: Operation, turns: int) -> None:
        """An operation on whole buffers."""
        scratch, written = _scratch(op), _written(op)
        for operand in op.operands:
            if getattr(operand.type, "buffer", False) and operand not in scratch:
                amount = turns * _bytes(operand, self._sizes)
                self._move(operand, operand in written, amount)
        flops = 2 * turns * self._products(op)
        self._counted.host_calls += op.name in ("host_call", "native_call")
        self._counted.shared |= flops >= _SHARED_FLOPS
        if flops:
            out = op.operands[2]
            elements = turns * dims.evaluate(out.type.size, self._sizes)
            weight = sum(map(_weight, op.regions))
            self._counted.compute(_dtype(out), flops + elements * weight)

    def _products(self, op: Operation) -> int:
        """How many pairs a kernel multiplies."""
        if op.name == "gemm":
            a, _b, c = (operand.type for operand in op.operands[:3])
            depth = a.dims[0 if op.attr("transpose_a") else 1]
            return self._size(c.size) * self._size(depth)
        if op.name == "conv":
            x, weights = (operand.type for operand in op.operands[:2])
            windows = math.prod(self._size(n) for n in op.attr("size"))
            return self._size(x.dims[0]) * windows * self._size(weights.size)
        if op.name == "conv_filter":
            _x, dy, out = (operand.type for operand in op.operands[:3])
            return self._size(out.size) * self._size(dims.product(dy.dims[:-1]))
        return 0

    def _move(self, buffer: Operand, writes: bool, amount: int) -> None:
        key = self._roots[buffer], writes
        if not writes and (key[0], True) in self._moved:
            return
        self._moved[key] = self._moved.get(key, 0) + amount

    def _size(self, dim: dims.Dim) -> int:
        return dims.evaluate(dim, self._sizes)

    def _size_of(self, root: Operand, otherwise: int) -> int:
        try:
            return _bytes(root, self._sizes)
        except KeyError:
            return otherwise


def _written(op: Operation) -> set[Operand]:
    """What an operation on whole buffers fills."""
    if op.name in ("host_call", "native_call"):
        outputs = op.attr("outputs")
        return set(op.operands[-outputs:]) if outputs else set()
    return {op.operands[_FILLS[op.name]]} if op.name in _FILLS else set()


def _scratch(op: Operation) -> set[Operand]:
    """Memory that a kernel has for itself."""
    if op.name == "gemm":
        return {op.operands[3]}
    if op.name == "conv" and op.attr("scratch"):
        return {op.operands[3]}
    return set(op.operands[3:]) if op.name == "conv_filter" else set()


# ---- values --------------------------------------------------------------------------------------


def _weight(block: Block) -> int:
    """Flops of one turn of a region."""
    return sum(
        cost.length(op) for op in block.ops
        if op.results and _is_float(_dtype(op.results[0])) and op.name not in _FREE
    )


def _dtype(value: Operand) -> str:
    return value.type.dtype if isinstance(value.type, Type) else ""


def _is_float(dtype: str) -> bool:
    return dtype in NUMERIC and NUMERIC[dtype][1] in "fc"


def _bytes(value: Operand, sizes: Mapping[str, int]) -> int:
    """Bytes of a value. Raises: KeyError where a size is not known."""
    type_ = value.type
    if not isinstance(type_, Type) or type_.dtype not in NUMERIC:
        return 0
    if type_.shape is None:
        raise KeyError(type_)
    return dims.evaluate(type_.size, sizes) * item_bytes(type_.dtype)
