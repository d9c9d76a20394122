"""Python types with native calls, made without a C compiler, collected like any other.

An instance has the layout below. ``traverse``, ``clear`` and ``dealloc`` are LLVM code, so
instances may stand in reference cycles and nothing of them leaks; methods are plain functions set
on the type.

    0 reference count | 8 type | 16 vectorcall | 24, 32 members | 40 weak references
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

from stepforge.codegen import entry_support, jit, layout, target
from stepforge.codegen.entry_support import (
    STEP_BYTES,
    STEP_VECTORCALL,
    STEP_WEAKREFS,
    decrease,
)
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter

_DEFAULT, _HAVE_VECTORCALL, _HAVE_GC, _NO_INSTANCES = 1 << 18, 1 << 11, 1 << 14, 1 << 7
_SLOTS = {"call": 50, "clear": 51, "dealloc": 52, "doc": 56, "traverse": 71, "members": 72}
_SIZE_MEMBER, _OBJECT_MEMBER, _READ_ONLY = 19, 16, 1
_COLLECTED = "this object was collected"


class _Slot(ctypes.Structure):
    _fields_ = (("slot", ctypes.c_int), ("value", ctypes.c_void_p))


class _Spec(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    )


class _Member(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def make_type(
    name: str, doc: str, members: Mapping[str, int], methods: Mapping[str, Any]
) -> type[Any]:
    """A type called ``name`` (dotted) whose instances own the ``members`` (name -> offset).

    ``methods`` become attributes of the type. Only ``allocate`` makes instances.
    """
    code = _life_cycle(tuple(members.values()))
    table = (_Member * (len(members) + 3))()
    table[0] = _Member(b"__vectorcalloffset__", _SIZE_MEMBER, STEP_VECTORCALL, _READ_ONLY, None)
    table[1] = _Member(b"__weaklistoffset__", _SIZE_MEMBER, STEP_WEAKREFS, _READ_ONLY, None)
    for k, (member, offset) in enumerate(members.items(), 2):
        table[k] = _Member(member.encode(), _OBJECT_MEMBER, offset, _READ_ONLY, None)
    text = ctypes.create_string_buffer(doc.encode())
    values = {
        "call": ctypes.cast(layout.PYTHON.PyVectorcall_Call, ctypes.c_void_p).value,
        "doc": ctypes.addressof(text),
        "members": ctypes.addressof(table),
        **{function: code[function] for function in ("traverse", "clear", "dealloc")},
    }
    slots = (_Slot * (len(values) + 1))(
        *(_Slot(_SLOTS[key], value) for key, value in values.items())
    )
    flags = _DEFAULT | _HAVE_VECTORCALL | _HAVE_GC | _NO_INSTANCES
    spec = _Spec(name.encode(), STEP_BYTES, 0, flags, slots)
    layout.keep((code, table, text, slots, spec))  # the type refers to all of them until the end
    make = layout.PYTHON.PyType_FromSpec
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p]
    made: type[Any] = make(ctypes.addressof(spec))
    for attribute, value in methods.items():
        setattr(made, attribute, value)
    return made


def allocate(type_: type[Any], vectorcall: int, members: Mapping[int, object]) -> Any:
    """An instance of a type of ``make_type``; ``members`` are objects by offset."""
    make = layout.PYTHON.PyType_GenericAlloc
    make.restype, make.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.c_ssize_t]
    made = make(type_, 0)
    for offset, value in members.items():
        layout.PYTHON.Py_IncRef(ctypes.py_object(value))
        set_pointer(made, offset, id(value))
    set_pointer(made, STEP_VECTORCALL, vectorcall)
    return made


def set_pointer(instance: Any, offset: int, address: int) -> None:
    """Store an address in an instance."""
    ctypes.c_void_p.from_address(id(instance) + offset).value = address


def _life_cycle(offsets: Sequence[int]) -> jit.Library:
    """``traverse``, ``clear`` and ``dealloc`` for instances that own objects at ``offsets``."""
    host = target.host()
    module = ModuleWriter(host.triple, host.attributes)
    _emit_traverse(module, offsets)
    _emit_collected(module)
    _emit_clear(module, offsets)
    _emit_dealloc(module)
    addresses = entry_support.symbols(module.externals())
    return jit.build(module.text(), "O0", addresses, ("traverse", "clear", "dealloc"))


def _emit_traverse(module: ModuleWriter, offsets: Sequence[int]) -> None:
    """Show the collector every object that an instance owns, its type among them."""
    params = [("ptr", "self"), ("ptr", "visit"), ("ptr", "argument")]
    fn = FunctionWriter(module, "traverse", "i32", params)
    for offset in (*offsets, layout.OBJECT_TYPE):
        owned = fn.load("ptr", "%self", offset)
        visit, following, stop = fn.label("visit"), fn.label("next"), fn.label("stop")
        fn.branch_if(fn.emit(f"icmp ne ptr {owned}, null"), visit, following)
        fn.start(visit)
        status = fn.call("i32", "%visit", ("ptr", owned), ("ptr", "%argument"))
        fn.branch_if(fn.emit(f"icmp eq i32 {status}, 0"), following, stop)
        fn.start(stop)
        fn.do(f"ret i32 {status}")
        fn.start(following)
    fn.do("ret i32 0")
    fn.define()


def _emit_collected(module: ModuleWriter) -> None:
    """What calling an instance does after ``clear``, when a finalizer brought it back."""
    params = [("ptr", "self"), ("ptr", "args"), ("i64", "count"), ("ptr", "kwnames")]
    fn = FunctionWriter(module, "collected", "ptr", params)
    text = module.constant("message", f'[{len(_COLLECTED) + 1} x i8] c"{_COLLECTED}\\00"')
    complain = module.declare("PyErr_SetString", "void", "ptr, ptr")
    fn.call("void", complain, ("ptr", module.extern("RuntimeError")), ("ptr", text))
    fn.do("ret ptr null")
    fn.define()


def _emit_clear(module: ModuleWriter, offsets: Sequence[int]) -> None:
    fn = FunctionWriter(module, "clear", "i32", [("ptr", "self")])
    fn.store("ptr", "@collected", "%self", STEP_VECTORCALL)
    owned = [fn.load("ptr", "%self", offset) for offset in offsets]
    for offset in offsets:
        fn.store("ptr", "null", "%self", offset)
    for value in owned:
        decrease(fn, value)
    fn.do("ret i32 0")
    fn.define()


def _emit_dealloc(module: ModuleWriter) -> None:
    fn = FunctionWriter(module, "dealloc", "void", [("ptr", "self")])

    def call(name: str) -> None:
        fn.call("void", module.declare(name, "void", "ptr"), ("ptr", "%self"))

    call("PyObject_GC_UnTrack")
    referred = fn.emit(f"icmp ne ptr {fn.load('ptr', '%self', STEP_WEAKREFS)}, null")
    fn.if_(referred, lambda: call("PyObject_ClearWeakRefs"))
    fn.call("i32", "@clear", ("ptr", "%self"))
    kind = fn.load("ptr", "%self", layout.OBJECT_TYPE)
    call("PyObject_GC_Del")
    decrease(fn, kind)  # an instance of a heap type owns a reference to it
    fn.do("ret void")
    fn.define()
