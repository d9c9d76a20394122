"""The part of an entry that gives results: arrays before the kernel runs, boxed numbers after it.

Every object that the entry owns stands in one array of the stack until it is handed over, so that
each failure drops all of them the same way.
"""

from __future__ import annotations

from stepforge.codegen import layout
from stepforge.codegen.conversions import DTYPES
from stepforge.codegen.dims import emit_dim
from stepforge.codegen.entry_feeds import element_alignment, element_type
from stepforge.codegen.entry_support import declare, increase
from stepforge.codegen.feed_support import NEW_ARRAY_PARAMS, new_array
from stepforge.codegen.large_memory import LARGE
from stepforge.codegen.llvm import LIKELY, FunctionWriter
from stepforge.codegen.signature import Fetch, Signature
from stepforge.ir.records import record
from stepforge.ir.types import Type, item_bytes


@record
class ResultWriter:
    """Writes the results of one entry.

    ``feeds`` and ``outs`` are the arrays that the kernel gets, ``objects`` that of the owned
    objects, ``sizes`` the entry names.
    """

    fn: FunctionWriter
    signature: Signature
    feeds: str
    outs: str
    objects: str
    sizes: dict[str, str]

    def allocate(self, failed: str) -> None:
        """Make room for every result; branch to ``failed``, with an error set, where that fails."""
        for index, fetch in enumerate(self.signature.fetches):
            self.fn.store("ptr", "null", self.objects, 8 * index)
            if fetch.kind != "dense":
                self.fn.store("ptr", "null", self.outs, 8 * index)
        for index, fetch in enumerate(self.signature.fetches):
            if fetch.kind == "dense":
                data = self._room(index, fetch.dense_type, failed)
                self.fn.store("ptr", data, self.outs, 8 * index)
            elif fetch.kind == "feed":  # now, while what it was converted to is there
                value = self._made(self._fed(fetch), failed)
                self.fn.store("ptr", value, self.objects, 8 * index)

    def take_objects(self) -> None:
        """Own what the kernel left in ``outs``, whether it succeeded or not."""
        for index, fetch in enumerate(self.signature.fetches):
            if fetch.kind == "object":
                self.fn.store(
                    "ptr", self.fn.load("ptr", self.outs, 8 * index), self.objects, 8 * index
                )

    def drop(self) -> None:
        """Give up all owned objects."""
        if self.signature.fetches:
            count = str(len(self.signature.fetches))
            drop = declare(self.fn.module, "stepforge_drop")
            self.fn.call("void", drop, ("ptr", self.objects), ("i64", count))

    def collect(self, failed: str) -> str:
        """Box what is not boxed and return the result; to ``failed`` as ``allocate`` does."""
        values = [
            self._box(index, fetch, failed) for index, fetch in enumerate(self.signature.fetches)
        ]
        if self.signature.structure == "single":
            return values[0]
        name = "PyTuple_New" if self.signature.structure == "tuple" else "PyList_New"
        make = self.fn.module.declare(name, "ptr", "i64")
        made = self._made(self.fn.call("ptr", make, ("i64", str(len(values)))), failed)
        items = made
        if name == "PyTuple_New":
            items = self.fn.offset(made, layout.TUPLE_ITEMS)
        elif values:
            items = self.fn.load("ptr", made, layout.LIST_ITEMS)
        for index, value in enumerate(values):
            self.fn.store("ptr", value, items, 8 * index)
        if self.signature.structure != "packed":
            return made
        pack = declare(self.fn.module, "stepforge_pack")
        return self.fn.call("ptr", pack, ("ptr", "%self"), ("ptr", made))

    # ---- before the kernel ----------------------------------------------------------------------

    def _room(self, index: int, type_: Type, failed: str) -> str:
        """Memory for a dense result: a stack cell for one number, else a new array's data."""
        if not type_.dims:
            return self.fn.alloca("i8", 16, 16)
        descr = self.fn.module.extern(f"descr_{type_.dtype}")
        make = self._array_maker(type_)
        array = new_array(self.fn, descr, str(type_.rank), self._shape(type_), make)
        self._made(array, failed)
        self.fn.store("ptr", array, self.objects, 8 * index)
        return self.fn.load("ptr", array, layout.ARRAY_DATA)

    def _array_maker(self, type_: Type) -> str:
        """What makes the array: large ones have memory that is used again."""
        plain = self.fn.module.declare("PyArray_NewFromDescr", "ptr", NEW_ARRAY_PARAMS)
        size = type_.size * item_bytes(type_.dtype)
        if isinstance(size, int) and size < LARGE:
            return plain
        large = declare(self.fn.module, "stepforge_new_large")
        much = f"icmp sge i64 {emit_dim(self.fn, size, self.sizes)}, {LARGE}"
        return self.fn.emit(f"select i1 {self.fn.emit(much)}, ptr {large}, ptr {plain}")

    def _shape(self, type_: Type) -> str:
        """The sizes of a result in stack memory."""
        memory = self.fn.alloca("i64", max(type_.rank, 1))
        for axis, dim in enumerate(type_.dims):
            self.fn.store("i64", emit_dim(self.fn, dim, self.sizes), memory, 8 * axis)
        return memory

    # ---- after it -------------------------------------------------------------------------------

    def _box(self, index: int, fetch: Fetch, failed: str) -> str:
        if fetch.kind == "none":
            value = self.fn.module.extern("Py_None")
            increase(self.fn, value)
        elif fetch.kind == "dense" and not fetch.dense_type.dims:
            cell = self.fn.load("ptr", self.outs, 8 * index)
            value = self._number(fetch.dense_type.dtype, cell, failed)
        else:
            value = self.fn.load("ptr", self.objects, 8 * index)
            return self._given(value, failed) if fetch.kind == "object" else value
        self.fn.store("ptr", value, self.objects, 8 * index)
        return value

    def _fed(self, fetch: Fetch) -> str:
        """The feed itself, or an array of what it was converted to."""
        source = fetch.source or 0
        type_ = self.signature.feeds[source].type
        descr = self.fn.module.extern(f"descr_{type_.dtype}")
        return self.fn.call(
            "ptr",
            declare(self.fn.module, "stepforge_feed_result"),
            ("ptr", self.fn.load("ptr", "%args", 8 * source)),
            ("i64", str(DTYPES.index(type_.dtype))),
            ("ptr", descr),
            ("i64", str(type_.rank)),
            ("ptr", self._shape(type_)),
            ("ptr", self.fn.load("ptr", self.feeds, 8 * source)),
        )

    def _number(self, dtype: str, cell: str, failed: str) -> str:
        """A NumPy scalar of the number in ``cell``."""
        fn, module = self.fn, self.fn.module
        if dtype == "bool":
            true = fn.emit(f"icmp ne i8 {fn.load('i8', cell)}, 0")
            yes, no = module.extern("numpy_true"), module.extern("numpy_false")
            value = fn.emit(f"select i1 {true}, ptr {yes}, ptr {no}")
            increase(fn, value)
            return value
        if dtype == "bf16":
            make = module.declare("PyArray_Scalar", "ptr", "ptr, ptr, ptr")
            args = [("ptr", cell), ("ptr", module.extern("descr_bf16")), ("ptr", "null")]
            return self._made(fn.call("ptr", make, *args), failed)
        allocate = module.declare(f"alloc_{dtype}", "ptr", "ptr, i64")
        kind = module.extern(f"scalar_{dtype}")
        value = self._made(fn.call("ptr", allocate, ("ptr", kind), ("i64", "0")), failed)
        element, align = element_type(dtype), f", align {element_alignment(dtype)}"
        number = fn.load(element, cell, extra=align)
        fn.store(element, number, value, layout.SCALAR_VALUE, extra=align)
        return value

    def _given(self, value: str, failed: str) -> str:
        """An object that the kernel should have left; its absence is an internal error."""
        module = self.fn.module

        def complain() -> None:
            self.fn.call("void", module.declare("PyErr_BadInternalCall", "void", ""))

        self.fn.if_(self.fn.emit(f"icmp eq ptr {value}, null"), complain)
        return self._made(value, failed)

    def _made(self, value: str, failed: str) -> str:
        """Go to ``failed`` where ``value`` is null."""
        good = self.fn.label("made")
        self.fn.branch_if(self.fn.emit(f"icmp ne ptr {value}, null"), good, failed, LIKELY)
        self.fn.start(good)
        return value
