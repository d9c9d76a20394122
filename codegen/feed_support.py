"""The shared code for feeds that are not just right: other numbers, other dtypes, strided arrays.

An entry accepts exact feeds by itself and calls these functions for the rest. They answer null or 0
for what Python has to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from stepforge.codegen import conversions, layout, strided_copy
from stepforge.codegen.conversions import DTYPES
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.signature import TABLE_ALLOC, TABLE_FREE
from stepforge.ir.types import NUMERIC, item_bytes, numpy_dtype

FUNCTIONS = {
    "stepforge_scalar_feed": ("i32", "ptr, i64, ptr"),
    "stepforge_array_feed": ("ptr", "ptr, i64, i64, ptr, ptr"),
    "stepforge_release": ("void", "ptr, ptr"),
    "stepforge_feed_result": ("ptr", "ptr, i64, ptr, i64, ptr, ptr"),
}

NEW_ARRAY_PARAMS = "ptr, ptr, i32, ptr, ptr, ptr, i32, ptr"

# The scratch record of a call: a cursor into stack memory, the bytes left there, and the blocks
# that were allocated: their number, then their addresses.
SCRATCH_CURSOR, SCRATCH_LEFT, SCRATCH_COUNT, SCRATCH_BLOCKS = 0, 8, 16, 24
SCRATCH_ALIGNMENT = 16

_TYPE_NUMBERS = 24  # NumPy's own dtypes have numbers below
_UNKNOWN = 255
_BIG_ENDIAN = ord(">")


def emit(module: ModuleWriter) -> None:
    """Define the functions in a module."""
    module.extern("stepforge_conversions")
    module.constant("item_bytes", _bytes(item_bytes(dtype) for dtype in DTYPES))
    module.constant("type_numbers", _bytes(_dtypes_by_number()))
    limits = ", ".join(f"i64 {bound}" for dtype in DTYPES for bound in _int_limits(dtype))
    module.constant("int_limits", f"[{2 * len(DTYPES)} x i64] [{limits}]")
    for define in (_convert, _array_dtype, _copy_strided, _int_feed, _scalar_feed):
        define(module)
    for define in (_array_feed, _release, _feed_result):
        define(module)


def _bytes(values: Iterable[int]) -> str:
    data = bytes(values)
    return f"[{len(data)} x i8] [{', '.join(f'i8 {value}' for value in data)}]"


def _dtypes_by_number() -> list[int]:
    table = [_UNKNOWN] * _TYPE_NUMBERS
    for k, dtype in enumerate(DTYPES):
        if dtype != "bf16":
            table[numpy_dtype(dtype).num] = k
    return table


def _int_limits(dtype: str) -> tuple[int, int]:
    """The Python ints that a feed of ``dtype`` takes, as far as 64 bits hold them."""
    _, kind, bits = NUMERIC[dtype]
    if kind == "b":
        return 0, 1
    if kind == "u":
        return 0, min(2**bits, 2**63) - 1
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind == "i" else (-(2**63), 2**63 - 1)


# ---- helpers ------------------------------------------------------------------------------------


def give(fn: FunctionWriter, condition: str, type_: str, value: str) -> None:
    """Return ``value`` where ``condition`` holds, else go on."""
    leave, stay = fn.label("leave"), fn.label("stay")
    fn.branch_if(condition, leave, stay)
    fn.start(leave)
    fn.do(f"ret {type_} {value}")
    fn.start(stay)


def _cell(fn: FunctionWriter, index: str | int) -> str:
    """The pointer in a cell of the table of conversions."""
    return fn.load("ptr", fn.offset("@stepforge_conversions", index, "ptr"))


def _byte(fn: FunctionWriter, table: str, index: str) -> str:
    return fn.emit(f"zext i8 {fn.load('i8', fn.offset(table, index))} to i64")


def _copy(fn: FunctionWriter, target: str, source: str, count: str) -> None:
    copy = fn.module.declare("llvm.memcpy.p0.p0.i64", "void", "ptr, ptr, i64, i1")
    fn.call("void", copy, ("ptr", target), ("ptr", source), ("i64", count), ("i1", "false"))


def _convert(module: ModuleWriter) -> None:
    """``count`` numbers from dtype ``from`` to dtype ``to`` (indices); 0 where it is not done."""
    params = [
        ("i64", "from"),
        ("i64", "to"),
        ("ptr", "source"),
        ("ptr", "target"),
        ("i64", "count"),
    ]
    fn = FunctionWriter(module, "convert", "i32", params, linkage="internal")
    same, other = fn.label("same"), fn.label("other")
    fn.branch_if(fn.emit("icmp eq i64 %from, %to"), same, other)
    fn.start(same)
    _copy(fn, "%target", "%source", fn.emit(f"mul i64 %count, {_byte(fn, '@item_bytes', '%to')}"))
    fn.do("ret i32 1")
    fn.start(other)
    row = fn.emit(f"mul i64 %from, {conversions.ROW}")
    kernel = _cell(fn, fn.emit(f"add i64 {row}, %to"))
    give(fn, fn.emit(f"icmp eq ptr {kernel}, null"), "i32", "0")
    good = fn.call("i32", kernel, ("ptr", "%source"), ("ptr", "%target"), ("i64", "%count"))
    fn.do(f"ret i32 {good}")
    fn.define()


def _array_dtype(module: ModuleWriter) -> None:
    """The index of an array's dtype; 255 for foreign byte order and what is no number of ours."""
    fn = FunctionWriter(module, "array_dtype", "i64", [("ptr", "array")], linkage="internal")
    descr = fn.load("ptr", "%array", layout.ARRAY_DESCR)
    order = fn.load("i8", descr, layout.DESCR_BYTE_ORDER)
    give(fn, fn.emit(f"icmp eq i8 {order}, {_BIG_ENDIAN}"), "i64", str(_UNKNOWN))
    extension = _cell(fn, conversions.BFLOAT16_DESCR)
    give(fn, fn.emit(f"icmp eq ptr {descr}, {extension}"), "i64", str(DTYPES.index("bf16")))
    number = fn.emit(f"zext i32 {fn.load('i32', descr, layout.DESCR_TYPE_NUMBER)} to i64")
    give(fn, fn.emit(f"icmp uge i64 {number}, {_TYPE_NUMBERS}"), "i64", str(_UNKNOWN))
    fn.do(f"ret i64 {_byte(fn, '@type_numbers', number)}")
    fn.define()


def _copy_strided(module: ModuleWriter) -> None:
    """Copy an array of any strides to contiguous memory; returns the end of what was written."""
    params = [
        ("ptr", "target"),
        ("ptr", "source"),
        ("i64", "rank"),
        ("ptr", "dims"),
        ("ptr", "strides"),
        ("i64", "size"),
    ]
    fn = FunctionWriter(module, "copy_strided", "ptr", params, linkage="internal")
    single, outer = fn.label("single"), fn.label("outer")
    fn.branch_if(fn.emit("icmp eq i64 %rank, 0"), single, outer)
    fn.start(single)
    _copy(fn, "%target", "%source", "%size")
    fn.do(f"ret ptr {fn.offset('%target', '%size')}")
    fn.start(outer)
    count, stride = fn.load("i64", "%dims"), fn.load("i64", "%strides")
    rank = fn.emit("sub i64 %rank, 1")
    innermost = fn.emit(f"icmp eq i64 {rank}, 0")
    _dense_row(fn, innermost, count, stride)
    for type_, size in (("i32", 4), ("i64", 8), ("i8", 1), ("i16", 2)):  # rows of plain elements
        plain = fn.emit(f"icmp eq i64 %size, {size}")
        _row(fn, fn.emit(f"and i1 {plain}, {innermost}"), type_, size, count, stride)
    dims, strides = fn.offset("%dims", 8), fn.offset("%strides", 8)

    def body(i: str, target: str) -> list[str]:
        source = fn.offset("%source", fn.emit(f"mul i64 {i}, {stride}"))
        args = [("ptr", target), ("ptr", source), ("i64", rank), ("ptr", dims), ("ptr", strides)]
        return [fn.call("ptr", "@copy_strided", *args, ("i64", "%size"))]

    (end,) = fn.loop(0, count, body, carried=[("ptr", "%target")])
    fn.do(f"ret ptr {end}")
    fn.define()


def _dense_row(fn: FunctionWriter, condition: str, count: str, stride: str) -> None:
    """Copy an innermost row whose elements lie side by side in one piece, and return its end."""
    yes, after = fn.label("dense"), fn.label("after")
    dense = fn.emit(f"icmp eq i64 {stride}, %size")
    fn.branch_if(fn.emit(f"and i1 {condition}, {dense}"), yes, after)
    fn.start(yes)
    length = fn.emit(f"mul i64 {count}, %size")
    _copy(fn, "%target", "%source", length)
    fn.do(f"ret ptr {fn.offset('%target', length)}")
    fn.start(after)


def _row(
    fn: FunctionWriter, condition: str, type_: str, size: int, count: str, stride: str
) -> None:
    yes, after = fn.label("row"), fn.label("after")
    fn.branch_if(condition, yes, after)
    fn.start(yes)

    def body(i: str) -> None:
        source = fn.offset("%source", fn.emit(f"mul i64 {i}, {stride}"))
        value = fn.load(type_, source, extra=", align 1")  # such feeds need not be aligned
        fn.store(type_, value, fn.offset("%target", i, type_), extra=f", align {size}")

    fn.loop(0, count, body)
    fn.do(f"ret ptr {fn.offset('%target', count, type_)}")
    fn.start(after)


# ---- feeds of rank 0 ----------------------------------------------------------------------------


def _int_feed(module: ModuleWriter) -> None:
    """A Python int of at most 60 bits that the dtype ``to`` has."""
    params = [("ptr", "object"), ("i64", "to"), ("ptr", "target")]
    fn = FunctionWriter(module, "int_feed", "i32", params, linkage="internal")
    cell = fn.alloca("i64")
    tag = fn.load("i64", "%object", layout.LONG_TAG)
    if layout.LONG_HAS_TAG:
        digits = fn.emit(f"lshr i64 {tag}, 3")
        negative = fn.emit(f"icmp eq i64 {fn.emit(f'and i64 {tag}, 3')}, 2")
    else:
        digits = _absolute(fn, tag)
        negative = fn.emit(f"icmp slt i64 {tag}, 0")
    give(fn, fn.emit(f"icmp ugt i64 {digits}, 2"), "i32", "0")
    # an int has room for at least one digit; where it has none or one, the second is not read
    low = fn.emit(f"zext i32 {fn.load('i32', '%object', layout.LONG_DIGITS)} to i64")
    fn.store("i64", low, cell)

    def second() -> None:
        high = fn.emit(f"zext i32 {fn.load('i32', '%object', layout.LONG_DIGITS + 4)} to i64")
        shifted = fn.emit(f"shl i64 {high}, 30")
        fn.store("i64", fn.emit(f"or i64 {low}, {shifted}"), cell)

    fn.if_(fn.emit(f"icmp eq i64 {digits}, 2"), second)
    fn.if_(fn.emit(f"icmp eq i64 {digits}, 0"), lambda: fn.store("i64", "0", cell))
    magnitude = fn.load("i64", cell)
    opposite = fn.emit(f"sub i64 0, {magnitude}")
    value = fn.emit(f"select i1 {negative}, i64 {opposite}, i64 {magnitude}")
    fn.store("i64", value, cell)
    bounds = fn.offset("@int_limits", "%to", "[2 x i64]")
    low_bound, high_bound = fn.load("i64", bounds), fn.load("i64", bounds, 8)
    give(fn, fn.emit(f"icmp slt i64 {value}, {low_bound}"), "i32", "0")
    give(fn, fn.emit(f"icmp sgt i64 {value}, {high_bound}"), "i32", "0")
    _return_converted(fn, str(DTYPES.index("i64")), cell)
    fn.define()


def _absolute(fn: FunctionWriter, value: str) -> str:
    absolute = fn.module.declare("llvm.abs.i64", "i64", "i64, i1")
    return fn.call("i64", absolute, ("i64", value), ("i1", "false"))


def _return_converted(fn: FunctionWriter, dtype: str, source: str) -> None:
    args = [("i64", dtype), ("i64", "%to"), ("ptr", source), ("ptr", "%target"), ("i64", "1")]
    fn.do(f"ret i32 {fn.call('i32', '@convert', *args)}")


def _scalar_feed(module: ModuleWriter) -> None:
    """Convert a Python number, a NumPy scalar or a 0-d array to one number of dtype ``to``."""
    params = [("ptr", "object"), ("i64", "to"), ("ptr", "target")]
    fn = FunctionWriter(module, "stepforge_scalar_feed", "i32", params)
    kind = fn.load("ptr", "%object", layout.OBJECT_TYPE)
    cases: dict[str, Callable[[FunctionWriter], None]] = {
        "PyLong_Type": _from_int,
        "PyFloat_Type": _from_float,
        "PyBool_Type": _from_bool,
        "PyArray_Type": _from_array,
    }
    for name, body in cases.items():
        yes, after = fn.label("case"), fn.label("after")
        fn.branch_if(fn.emit(f"icmp eq ptr {kind}, {module.extern(name)}"), yes, after)
        fn.start(yes)
        body(fn)
        fn.start(after)

    def compare(k: str) -> None:
        known = _cell(fn, fn.emit(f"add i64 {k}, {conversions.SCALAR_TYPES}"))
        found, after = fn.label("found"), fn.label("after")
        fn.branch_if(fn.emit(f"icmp eq ptr {kind}, {known}"), found, after)
        fn.start(found)
        _return_converted(fn, k, fn.offset("%object", layout.SCALAR_VALUE))
        fn.start(after)

    fn.loop(0, len(DTYPES), compare)
    fn.do("ret i32 0")
    fn.define()


def _from_int(fn: FunctionWriter) -> None:
    result = fn.call("i32", "@int_feed", ("ptr", "%object"), ("i64", "%to"), ("ptr", "%target"))
    fn.do(f"ret i32 {result}")


def _from_float(fn: FunctionWriter) -> None:
    _return_converted(fn, str(DTYPES.index("f64")), fn.offset("%object", layout.FLOAT_VALUE))


def _from_bool(fn: FunctionWriter) -> None:
    cell = fn.alloca("i8", 1, 1)
    true = fn.emit(f"icmp eq ptr %object, {fn.module.extern('Py_True')}")
    fn.store("i8", fn.emit(f"zext i1 {true} to i8"), cell)
    _return_converted(fn, str(DTYPES.index("bool")), cell)


def _from_array(fn: FunctionWriter) -> None:
    rank = fn.load("i32", "%object", layout.ARRAY_RANK)
    give(fn, fn.emit(f"icmp ne i32 {rank}, 0"), "i32", "0")
    give(fn, _misplaced(fn), "i32", "0")
    dtype = fn.call("i64", "@array_dtype", ("ptr", "%object"))
    give(fn, fn.emit(f"icmp eq i64 {dtype}, {_UNKNOWN}"), "i32", "0")
    _return_converted(fn, dtype, fn.load("ptr", "%object", layout.ARRAY_DATA))


def _misplaced(fn: FunctionWriter) -> str:
    """An i1 that is true for arrays that are not both contiguous and aligned."""
    flags = fn.load("i32", "%object", layout.ARRAY_FLAGS)
    wanted = layout.CONTIGUOUS_ALIGNED
    return fn.emit(f"icmp ne i32 {fn.emit(f'and i32 {flags}, {wanted}')}, {wanted}")


# ---- feeds of higher rank -----------------------------------------------------------------------


def _array_feed(module: ModuleWriter) -> None:
    """Contiguous memory with an array's elements in dtype ``to``; null where Python must look."""
    params = [
        ("ptr", "object"),
        ("i64", "to"),
        ("i64", "rank"),
        ("ptr", "scratch"),
        ("ptr", "table"),
    ]
    fn = FunctionWriter(module, "stepforge_array_feed", "ptr", params)
    dtype = _known_array(fn)
    data = fn.load("ptr", "%object", layout.ARRAY_DATA)
    misplaced, same = _misplaced(fn), fn.emit(f"icmp eq i64 {dtype}, %to")
    give(fn, fn.emit(f"select i1 {same}, i1 {_negate(fn, misplaced)}, i1 false"), "ptr", data)
    give(fn, fn.emit(f"select i1 {same}, i1 false, i1 {misplaced}"), "ptr", "null")
    dims = fn.load("ptr", "%object", layout.ARRAY_DIMS)
    count = _count(fn, dims)
    memory = _scratch_memory(fn, count)
    copy, convert = fn.label("copy"), fn.label("convert")
    fn.branch_if(same, copy, convert)
    fn.start(copy)
    strides = fn.load("ptr", "%object", layout.ARRAY_STRIDES)
    size = _byte(fn, "@item_bytes", "%to")
    copier = _copier(fn, fn.emit(f"mul i64 {count}, {size}"))
    places = [("ptr", memory), ("ptr", data), ("i64", "%rank")]
    fn.call("ptr", copier, *places, ("ptr", dims), ("ptr", strides), ("i64", size))
    fn.do(f"ret ptr {memory}")
    fn.start(convert)
    args = [("i64", dtype), ("i64", "%to"), ("ptr", data), ("ptr", memory), ("i64", count)]
    good = fn.emit(f"icmp ne i32 {fn.call('i32', '@convert', *args)}, 0")
    fn.do(f"ret ptr {fn.emit(f'select i1 {good}, ptr {memory}, ptr null')}")
    fn.define()


def _copier(fn: FunctionWriter, length: str) -> str:
    """What copies strided arrays of so many bytes; gives null where it is not made yet."""
    large = fn.emit(f"icmp sge i64 {length}, {strided_copy.LEAST_BYTES}")
    made = _cell(fn, conversions.STRIDED_COPY)
    missing = fn.emit(f"icmp eq ptr {made}, null")
    give(fn, fn.emit(f"and i1 {large}, {missing}"), "ptr", "null")
    return fn.emit(f"select i1 {large}, ptr {made}, ptr @copy_strided")


def _known_array(fn: FunctionWriter) -> str:
    """The dtype of ``object``; gives null unless it is an array of a known dtype and right rank."""
    kind = fn.load("ptr", "%object", layout.OBJECT_TYPE)
    give(fn, fn.emit(f"icmp ne ptr {kind}, {fn.module.extern('PyArray_Type')}"), "ptr", "null")
    rank = fn.emit(f"sext i32 {fn.load('i32', '%object', layout.ARRAY_RANK)} to i64")
    give(fn, fn.emit(f"icmp ne i64 {rank}, %rank"), "ptr", "null")
    dtype = fn.call("i64", "@array_dtype", ("ptr", "%object"))
    give(fn, fn.emit(f"icmp eq i64 {dtype}, {_UNKNOWN}"), "ptr", "null")
    return dtype


def _negate(fn: FunctionWriter, flag: str) -> str:
    return fn.emit(f"xor i1 {flag}, true")


def _scratch_memory(fn: FunctionWriter, count: str) -> str:
    """Memory for ``count`` elements: what is left on the entry's stack, else a block of its own."""
    size = fn.emit(f"mul i64 {count}, {_byte(fn, '@item_bytes', '%to')}")
    padded = fn.emit(f"add i64 {size}, {SCRATCH_ALIGNMENT - 1}")
    taken = fn.emit(f"and i64 {padded}, {-SCRATCH_ALIGNMENT}")
    left = fn.load("i64", "%scratch", SCRATCH_LEFT)
    stack, heap, ready = fn.label("stack"), fn.label("heap"), fn.label("ready")
    fn.branch_if(fn.emit(f"icmp sle i64 {taken}, {left}"), stack, heap)
    fn.start(stack)
    cursor = fn.load("ptr", "%scratch", SCRATCH_CURSOR)
    fn.store("ptr", fn.offset(cursor, taken), "%scratch", SCRATCH_CURSOR)
    fn.store("i64", fn.emit(f"sub i64 {left}, {taken}"), "%scratch", SCRATCH_LEFT)
    fn.branch(ready)
    fn.start(heap)
    block = fn.call("ptr", fn.load("ptr", "%table", 8 * TABLE_ALLOC), ("i64", size))
    give(fn, fn.emit(f"icmp eq ptr {block}, null"), "ptr", "null")
    blocks = fn.load("i64", "%scratch", SCRATCH_COUNT)
    fn.store("ptr", block, fn.offset(fn.offset("%scratch", SCRATCH_BLOCKS), blocks, "ptr"))
    fn.store("i64", fn.emit(f"add i64 {blocks}, 1"), "%scratch", SCRATCH_COUNT)
    end = fn.block
    fn.branch(ready)
    fn.start(ready)
    return fn.phi("ptr", (cursor, stack), (block, end))


def _release(module: ModuleWriter) -> None:
    """Free the blocks of a scratch record."""
    fn = FunctionWriter(module, "stepforge_release", "void", [("ptr", "scratch"), ("ptr", "table")])
    free = fn.load("ptr", "%table", 8 * TABLE_FREE)

    def body(i: str) -> None:
        blocks = fn.offset("%scratch", SCRATCH_BLOCKS)
        fn.call("void", free, ("ptr", fn.load("ptr", fn.offset(blocks, i, "ptr"))))

    fn.loop(0, fn.load("i64", "%scratch", SCRATCH_COUNT), body)
    fn.do("ret void")
    fn.define()


def _feed_result(module: ModuleWriter) -> None:
    """A feed as a result: itself where its dtype is right, else an array of what it became."""
    params = [
        ("ptr", "object"),
        ("i64", "to"),
        ("ptr", "descr"),
        ("i64", "rank"),
        ("ptr", "dims"),
        ("ptr", "data"),
    ]
    fn = FunctionWriter(module, "stepforge_feed_result", "ptr", params)
    array, same, other = fn.label("array"), fn.label("same"), fn.label("other")
    kind = fn.load("ptr", "%object", layout.OBJECT_TYPE)
    array_type = module.extern("PyArray_Type")
    fn.branch_if(fn.emit(f"icmp eq ptr {kind}, {array_type}"), array, other)
    fn.start(array)
    dtype = fn.call("i64", "@array_dtype", ("ptr", "%object"))
    fn.branch_if(fn.emit(f"icmp eq i64 {dtype}, %to"), same, other)
    fn.start(same)
    fn.call("void", module.declare("Py_IncRef", "void", "ptr"), ("ptr", "%object"))
    fn.do("ret ptr %object")
    fn.start(other)
    rank = fn.emit("trunc i64 %rank to i32")
    made = new_array(fn, "%descr", rank, "%dims")
    give(fn, fn.emit(f"icmp eq ptr {made}, null"), "ptr", "null")
    count = _count(fn, "%dims")
    size = fn.emit(f"mul i64 {count}, {_byte(fn, '@item_bytes', '%to')}")
    _copy(fn, fn.load("ptr", made, layout.ARRAY_DATA), "%data", size)
    fn.do(f"ret ptr {made}")
    fn.define()


def _count(fn: FunctionWriter, dims: str) -> str:
    """The product of ``%rank`` sizes."""
    (count,) = fn.loop(
        0,
        "%rank",
        lambda i, n: [fn.emit(f"mul i64 {n}, {fn.load('i64', fn.offset(dims, i, 'i64'))}")],
        carried=[("i64", "1")],
    )
    return count


def new_array(
    fn: FunctionWriter, descr: str, rank: str, dims: str, make: str = ""
) -> str:
    """A new C-contiguous array; null with an error set where there is no memory for it.

    ``make`` is ``PyArray_NewFromDescr`` or a function like it.
    """
    module = fn.module
    fn.call("void", module.declare("Py_IncRef", "void", "ptr"), ("ptr", descr))  # the array's own
    kind = ("ptr", module.extern("PyArray_Type"))
    shape = [("i32", rank), ("ptr", dims)]
    rest = [("ptr", "null"), ("ptr", "null"), ("i32", "0"), ("ptr", "null")]
    make = make or module.declare("PyArray_NewFromDescr", "ptr", NEW_ARRAY_PARAMS)
    return fn.call("ptr", make, kind, ("ptr", descr), *shape, *rest)
