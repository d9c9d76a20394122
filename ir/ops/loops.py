"""The loop level: loops over buffers, and what a lowered step does between them.

Sizes and bounds are dimension expressions in attributes; a loop counter has type ``index``;
elements are scalars, computed by the elementwise ops of the tensor level. A buffer is row-major and
contiguous.
"""

from __future__ import annotations

from stepforge.ir import dims
from stepforge.ir.core import Operation
from stepforge.ir.dims import Dim
from stepforge.ir.errors import IRError
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.types import Type, index, item_bytes

# Results from which stores that nobody reads soon go past the caches, in bytes: more than the
# second-level cache of a core holds.
STREAM_BYTES = 3 << 20


class LoopOp(OpDef):
    """Base class: an op of the loop level."""

    level = "loop"


def _element(buffer: Type, indices: tuple[Type, ...], op: str) -> Type:
    if not buffer.buffer:
        raise IRError(f"{op}: {buffer} is no buffer")
    if len(indices) != buffer.rank:
        raise IRError(f"{op}: {len(indices)} indices for {buffer}")
    return Type(buffer.dtype)


@define_op
class For(LoopOp):
    """Count ``i`` from ``low`` below ``high`` by ``step``; carry values from one turn to the next.

    ``simd`` lets the turns run as lanes of a vector: they must be independent but for carried
    values, and ``combine`` names for each of those how lanes combine (add, mul, max, min, and,
    or). ``binds`` is a name for the counter as a size, for the bounds of loops inside. A
    ``parallel`` loop may run its turns in any order, on several threads if it is a whole nest;
    ``work`` are the nanoseconds that all of them take on one.
    ``%s = for(0.0: f32, low=0, high=n, simd=true, combine=["add"]) : f32 |%i: index, %c: f32|
    {...}``
    """

    region_names = ("",)
    binds_inside = True

    def infer(
        self,
        *carried: Type,
        low: Dim = 0,
        high: Dim = 0,
        step: int = 1,
        simd: bool = False,
        combine: tuple[str, ...] = (),
        binds: str = "",
        parallel: bool = False,
        work: Dim = 0,
    ) -> tuple[Type, ...]:
        return carried

    def verify(self, op: Operation) -> str | None:
        """The problem with this operation, or None."""
        params = op.regions[0].params
        if [p.type for p in params] != [index, *(o.type for o in op.operands)]:
            return "the region takes a counter and the carried values"
        given = [v.type for v in op.regions[0].terminator.operands]
        if given != [o.type for o in op.operands]:
            return "the region yields other types than it carries"
        return None


@define_op
class Load(LoopOp):
    """An element of a buffer. ``%v = load(%x, %i, %j) : f32``"""

    def infer(self, buffer: Type, *indices: Type) -> Type:
        return _element(buffer, indices, "load")


@define_op
class Store(LoopOp):
    """Store an element. ``store(%v, %x, %i, %j)``

    ``stream`` says that nobody reads the buffer soon: where it is large, its elements may go past
    the caches.
    """

    effect = "write"

    def infer(
        self, value: Type, buffer: Type, *indices: Type, stream: bool = False
    ) -> tuple[Type, ...]:
        if _element(buffer, indices, "store").dtype != value.dtype:
            raise IRError(f"store: {value} into {buffer}")
        return ()


@define_op
class Index(LoopOp):
    """An affine index:

    ``offset + sum(scale * counter)``. ``%p = index(%i, scale=[-1], offset=n - 1)``
    """

    def infer(self, *counters: Type, scale: tuple[Dim, ...] = (), offset: Dim = 0) -> Type:
        if len(scale) != len(counters):
            raise IRError(f"index: {len(scale)} factors for {len(counters)} counters")
        return index


@define_op
class IndexDiv(LoopOp):
    """``counter // by`` of a non-negative index. ``%p = index_div(%i, by=3)``"""

    def infer(self, counter: Type, *, by: Dim = 1) -> Type:
        return index


@define_op
class IndexMod(LoopOp):
    """``counter % by`` of a non-negative index. ``%p = index_mod(%i, by=3)``"""

    def infer(self, counter: Type, *, by: Dim = 1) -> Type:
        return index


@define_op
class ToIndex(LoopOp):
    """An integer element as an index below ``limit``, clamped so that it never leaves the buffer.

    ``%p = to_index(%v, limit=n)``
    """

    def infer(self, value: Type, *, limit: Dim = 0) -> Type:
        return index


@define_op
class FromIndex(LoopOp):
    """An index as an integer or real element. ``%v = from_index(%i, dtype="f32")``"""

    def infer(self, counter: Type, *, dtype: str = "i64") -> Type:
        return Type(dtype)


@define_op
class Alloc(LoopOp):
    """A buffer of its own, uninitialised;

    ``plan`` gives it a place. ``%t = alloc(shape=[n], dtype="f32")``
    With ``combine`` (add, mul, max, min, and, or) it is an *accumulator*: its elements start as
    what changes nothing, and the turns of one nest each combine something with them. They may do
    so in blocks that are combined in the end; ``block_rows`` sees to both.
    """

    def infer(
        self, *, shape: tuple[Dim, ...] = (), dtype: str = "f32", combine: str = ""
    ) -> Type:
        return Type(dtype, shape, buffer=True)


@define_op
class Place(LoopOp):
    """A buffer at a planned place:

    ``offset`` bytes into the arena. ``%t = place(offset=64, shape=[n])``
    """

    def infer(self, *, offset: Dim = 0, shape: tuple[Dim, ...] = (), dtype: str = "f32") -> Type:
        return Type(dtype, shape, buffer=True)


@define_op
class View(LoopOp):
    """The same memory with another shape of as many elements. ``%v = view(%x, shape=[n*3])``

    Where the sizes are not provably equal, a check has made sure of it before; or the view is the
    first part of a buffer for the most that there can be. Another ``dtype`` of the same width
    takes the elements by their bits.
    """

    def infer(self, buffer: Type, *, shape: tuple[Dim, ...] = (), dtype: str = "") -> Type:
        difference = buffer.size - dims.product(shape)
        if isinstance(difference, int) and difference:
            raise IRError(f"view: {buffer} has not the elements of [{', '.join(map(str, shape))}]")
        if dtype and item_bytes(dtype) != item_bytes(buffer.dtype):
            raise IRError(f"view: {dtype} is not as wide as the elements of {buffer}")
        return buffer.with_shape(shape).with_dtype(dtype or buffer.dtype)


@define_op
class Subview(LoopOp):
    """The part of a buffer behind leading indices. ``%row = subview(%x, %i) : &f32[n]``"""

    def infer(self, buffer: Type, *indices: Type) -> Type:
        return buffer.with_shape(buffer.dims[len(indices) :])


@define_op
class Rows(LoopOp):
    """Some rows of a buffer, those from ``low`` on.

    ``%block = rows(%x, low=64*b, count=64) : &f32[64, m]``
    """

    def infer(self, buffer: Type, *, low: Dim = 0, count: Dim = 0) -> Type:
        return buffer.with_shape((count, *buffer.dims[1:]))


@define_op
class Slot(LoopOp):
    """The buffer of a variable that the entry has checked. ``%w = slot(@w) : &f32[3]``"""

    effect = "read"

    def infer(self, variable: Type) -> Type:
        return Type(variable.dtype, variable.shape, buffer=True)


@define_op
class NewSlot(LoopOp):
    """A fresh buffer for a variable's next value, which ``commit`` installs. ``%t = new_slot(@w,
    shape=[3])``

    Fails where memory runs out; the variable is untouched until ``commit``.
    """

    effect = "check"

    def infer(self, variable: Type, *, shape: tuple[Dim, ...] = ()) -> Type:
        return Type(variable.dtype, shape, buffer=True)


@define_op
class Commit(LoopOp):
    """Make the buffer of ``new_slot`` the variable's value. ``commit(@w, %t)``"""

    effect = "write"

    def infer(self, variable: Type, buffer: Type) -> tuple[Type, ...]:
        return ()


@define_op
class Constant(LoopOp):
    """The read-only buffer of a constant symbol. ``%c = constant(@c) : &f32[3]``"""

    def infer(self, symbol: Type) -> Type:
        return Type(symbol.dtype, symbol.shape, buffer=True)


@define_op
class Copy(LoopOp):
    """Copy a whole buffer of any dtype. ``copy(%x, %y)``"""

    effect = "write"

    def infer(self, source: Type, target: Type) -> tuple[Type, ...]:
        if source.dtype != target.dtype:
            raise IRError(f"copy: {source} into {target}")
        return ()


@define_op
class TransposeMatrix(LoopOp):
    """The transpose of a matrix, by tiles. ``transpose_matrix(%x, %y)`` of [n, m] into [m, n]"""

    effect = "write"

    def infer(self, source: Type, target: Type) -> tuple[Type, ...]:
        if source.dtype != target.dtype or source.dims != target.dims[::-1]:
            raise IRError(f"transpose_matrix: {source} into {target}")
        return ()


@define_op
class FailIf(LoopOp):
    """Leave the step with an error where ``condition`` holds; ``values`` fill the ``{}`` of
    ``message``.

    ``fail_if(%bad, %i, %v, message="indices[{}] = {} is not in [0, 3)",
    error="InvalidArgumentError")``
    """

    effect = "check"

    def infer(
        self, condition: Type, *values: Type, message: str = "", error: str = "InvalidArgumentError"
    ) -> tuple[Type, ...]:
        return ()


@define_op
class FailUnless(LoopOp):
    """Leave the step with an error where a size is not another.

    ``fail_unless(lhs=n*2, rhs=m + 1)``
    """

    effect = "check"

    def infer(
        self, *, lhs: Dim = 0, rhs: Dim = 0, message: str = "", error: str = "InvalidArgumentError"
    ) -> tuple[Type, ...]:
        return ()


@define_op
class BindSize(LoopOp):
    """Give a loaded integer element a name as a size. ``bind_size(%v, binds="k")``"""

    effect = "host"

    def infer(self, value: Type, *, binds: str = "") -> tuple[Type, ...]:
        return ()


@define_op
class Gemm(LoopOp):
    """``c = a @ b`` on buffers of rank 2, each element through the region where there is one.

    ``scratch`` is memory for packed operands, as much as ``ir.products`` says; it is written, as c
    is. ``operands`` have the sizes of c or 1; their elements are the region's parameters behind
    that of the product.
    ``gemm(%a, %b, %c, %s, %bias, transpose_b=true) |%acc: f32, %p: f32| {...}``
    """

    effect = "write"
    region_names = ("",)

    def infer(
        self,
        a: Type,
        b: Type,
        c: Type,
        scratch: Type,
        *operands: Type,
        transpose_a: bool = False,
        transpose_b: bool = False,
    ) -> tuple[Type, ...]:
        return ()

    def verify(self, op: Operation) -> str | None:
        """The problem with this operation, or None."""
        a, b, c, scratch, *operands = (o.type for o in op.operands)
        if any(t.rank != 2 or not t.buffer for t in (a, b, c, *operands)):
            return "a, b, c and operands are buffers of rank 2"
        if {a.dtype, b.dtype, scratch.dtype} != {c.dtype}:
            return f"{a}, {b} and {scratch} are not of the dtype of {c}"
        wanted = [Type(t.dtype) for t in (c, *operands)]
        given = [[p.type for p in region.params] for region in op.regions]
        if given != ([wanted] if operands or op.regions else []):
            return f"operands {operands} do not fit the region"
        pairs = [pair for t in operands for pair in zip(t.dims, c.dims, strict=True)]
        if any(n not in (1, size) for n, size in pairs):
            return f"operands {operands} do not broadcast to {c}"
        return None


@define_op
class HostCall(LoopOp):
    """Run an op's ``numpy`` rule on its operands, with the interpreter lock held.

    ``arguments`` are buffers and symbols, the last ``outputs`` of them are written; ``sizes`` are
    handed over with them. Results whose sizes only their values tell (``result_types``, ``binds``
    the new names) are arrays of their own that live as long as the call. ``operation`` numbers the
    tensor operation in the step's table of host calls.
    """

    effect = "host"

    def infer(
        self,
        *arguments: Type,
        operation: int = 0,
        outputs: int = 0,
        sizes: tuple[Dim, ...] = (),
        result_types: tuple[Type, ...] = (),
        binds: tuple[str, ...] = (),
    ) -> tuple[Type, ...]:
        return tuple(Type(t.dtype, t.shape, buffer=True) for t in result_types)


@define_op
class NewResult(LoopOp):
    """The array of result number ``result``, whose sizes are known only now.

    ``%r = new_result(result=0, shape=[m])``
    """

    effect = "host"

    def infer(self, *, result: int = 0, shape: tuple[Dim, ...] = (), dtype: str = "f32") -> Type:
        return Type(dtype, shape, buffer=True)


@define_op
class Philox(LoopOp):
    """Fill a buffer with the next random numbers of a stream.

    ``kind``: uniform, normal, truncated_normal; or uniform_int, which takes elements as bounds.
    ``philox(@s, %out, %low, %high, kind="uniform_int")``
    """

    effect = "random"

    def infer(
        self, stream: Type, out: Type, *bounds: Type, kind: str = "uniform"
    ) -> tuple[Type, ...]:
        wanted = [Type(out.dtype)] * (2 if kind == "uniform_int" else 0)
        if not out.buffer or list(bounds) != wanted:
            raise IRError(f"philox: {kind} cannot fill {out} with bounds {bounds}")
        return ()
