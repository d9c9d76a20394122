"""Kernels for tests of ``codegen.lanes``: a rule over lanes becomes a function over arrays."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from stepforge.codegen import target as targets
from stepforge.codegen.lanes import Lane, LaneBuilder, storage_bytes
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.target import Capabilities
from stepforge.ir.types import numpy_dtype

Rule = Callable[..., Lane]
llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
TRIPLE = llvm.get_process_triple()
IS_X86 = TRIPLE.startswith(("x86_64", "amd64"))


@dataclass(frozen=True)
class Target:
    """A processor to compile for."""

    cpu: str
    features: str
    capabilities: Capabilities
    triple: str = TRIPLE

    @property
    def attributes(self) -> str:
        return (f'"target-cpu"="{self.cpu}" "target-features"="{self.features}" '
                '"prefer-vector-width"="512" "min-legal-vector-width"="0"')

    def machine(self) -> llvm.TargetMachine:
        target = llvm.Target.from_triple(self.triple)
        return target.create_target_machine(cpu=self.cpu, features=self.features, opt=1,
                                            reloc="pic", codemodel="default")


def host() -> Target:
    this = targets.host()
    return Target(this.cpu, this.features, this.capabilities)


def without_avx512() -> Target:
    """This processor, as if it had no instructions for vector math."""
    return replace(host(), capabilities=replace(host().capabilities, avx512=False))


OLDEST_X86 = Target("x86-64", "", Capabilities(fma=False))


def undefined_symbols(elf: bytes) -> set[str]:
    """The names that a 64-bit ELF object needs from outside."""
    (sections,) = struct.unpack_from("<Q", elf, 0x28)
    entry, count = struct.unpack_from("<HH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQII", elf, sections + i * entry) for i in range(count)]
    names = set()
    for _, kind, _, _, offset, size, link, _ in headers:
        if kind != 2:  # the symbol table
            continue
        strings = headers[link][4]
        for at in range(offset, offset + size, 24):
            name, _, _, section = struct.unpack_from("<IBBH", elf, at)
            start = strings + name
            if name and not section:
                names.add(elf[start : elf.index(b"\0", start)].decode())
    return names


def _symbol(name: str) -> str:
    return f"test.{name}"  # a kernel called "sin" would take the place of the C library's


@dataclass
class Program:
    """Functions of one module; ``add`` them, then call them by name."""

    target: Target = field(default_factory=host)
    results: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.module = ModuleWriter(self.target.triple, self.target.attributes)

    def function(self, name: str, params: Sequence[tuple[str, str]], width: int,
                 write: Callable[[LaneBuilder], None]) -> None:
        """A void function of ``params`` whose body ``write`` emits."""
        fn = FunctionWriter(self.module, _symbol(name), "void", params)
        write(LaneBuilder(fn, width, self.target.capabilities))
        fn.do("ret void")
        fn.define()

    def add(self, name: str, rule: Rule, dtypes: Sequence[str], width: int) -> None:
        """``rule(k, *lanes)`` over arrays of ``dtypes``: whole vectors, then a masked tail."""
        params = [("ptr", f"a{i}") for i in range(len(dtypes))]

        def write(k: LaneBuilder) -> None:
            fn = k.fn

            def place(pointer: str, i: str, dtype: str) -> str:
                return fn.offset(f"%{pointer}", fn.emit(f"mul i64 {i}, {storage_bytes(dtype)}"))

            def whole(i: str) -> None:
                lanes = [k.load(place(f"a{n}", i, d), d) for n, d in enumerate(dtypes)]
                result = rule(k, *lanes)
                k.store(result, place("out", i, result.dtype))
                self.results[name] = result.dtype

            end = fn.emit(f"and i64 %n, {-width}")
            fn.loop(0, end, whole, step=width)
            if width > 1:
                mask = k.tail_mask(fn.emit(f"sub i64 %n, {end}"))
                lanes = [k.load_masked(place(f"a{n}", end, d), d, mask, 1)
                         for n, d in enumerate(dtypes)]
                result = rule(k, *lanes)
                k.store_masked(result, place("out", end, result.dtype), mask)

        self.function(name, [*params, ("ptr", "out"), ("i64", "n")], width, write)

    @cached_property
    def object(self) -> bytes:
        """The optimised module as an object file."""
        machine = self.target.machine()
        module = llvm.parse_assembly(self.module.text())
        module.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=1)
        options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
        passes = llvm.create_pass_builder(machine, options)
        passes.getModulePassManager().run(module, passes)
        return bytes(machine.emit_object(module))

    @cached_property
    def _engine(self) -> Any:
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), self.target.machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(self.object))
        engine.finalize_object()
        return engine

    def call(self, name: str, *args: np.ndarray | int) -> None:
        """Call a function with the addresses of arrays and i64 numbers."""
        types = [ctypes.c_void_p if isinstance(a, np.ndarray) else ctypes.c_int64 for a in args]
        values = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in args]
        address = self._engine.get_function_address(_symbol(name))
        ctypes.CFUNCTYPE(None, *types)(address)(*values)

    def run(self, name: str, *arrays: np.ndarray) -> np.ndarray:
        """The result of a function made by ``add``."""
        contiguous = [np.ascontiguousarray(a) for a in arrays]
        out = np.empty(len(contiguous[0]), numpy_dtype(self.results[name]))
        self.call(name, *contiguous, out, len(out))
        return out
