"""Kernels for tests of ``codegen.lanes``: a rule over lanes becomes a function over arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from stepforge.codegen.lanes import Lane, LaneBuilder, storage_bytes
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
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
    has_fma: bool
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
    features = llvm.get_host_cpu_features()
    has_fma = not IS_X86 or features.get("fma", False)
    return Target(llvm.get_host_cpu_name(), features.flatten(), has_fma)


def optimise(module: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


def _symbol(name: str) -> str:
    return f"test.{name}"  # a kernel called "sin" would take the place of the C library's


@dataclass
class Program:
    """Functions of one module; ``add`` them, then call them by name."""

    target: Target = field(default_factory=host)
    results: dict[str, str] = field(default_factory=dict)
    _engine: Any = None

    def __post_init__(self) -> None:
        self.module = ModuleWriter(self.target.triple, self.target.attributes)

    def builder(self, fn: FunctionWriter, width: int) -> LaneBuilder:
        return LaneBuilder(fn, width, has_fma=self.target.has_fma)

    def add(self, name: str, rule: Rule, dtypes: Sequence[str], width: int) -> None:
        """``rule(k, *lanes)`` over arrays of ``dtypes``: whole vectors, then a masked tail."""
        params = [("ptr", f"a{i}") for i in range(len(dtypes))]
        fn = FunctionWriter(self.module, _symbol(name), "void",
                            [*params, ("ptr", "out"), ("i64", "n")])
        k = self.builder(fn, width)

        def places(i: str) -> list[str]:
            return [fn.offset(f"%{p}", fn.emit(f"mul i64 {i}, {storage_bytes(d)}"))
                    for (_, p), d in zip(params, dtypes, strict=True)]

        def out(i: str, lane: Lane) -> str:
            self.results[name] = lane.dtype
            return fn.offset("%out", fn.emit(f"mul i64 {i}, {storage_bytes(lane.dtype)}"))

        def whole(i: str) -> None:
            loaded = zip(places(i), dtypes, strict=True)
            lane = rule(k, *(k.load(place, dtype) for place, dtype in loaded))
            k.store(lane, out(i, lane))

        end = fn.emit(f"and i64 %n, {-width}")
        fn.loop(0, end, whole, step=width)
        if width > 1:
            mask = k.tail_mask(fn.emit(f"sub i64 %n, {end}"))
            loaded = zip(places(end), dtypes, strict=True)
            lane = rule(k, *(k.load_masked(place, dtype, mask, 1) for place, dtype in loaded))
            k.store_masked(lane, out(end, lane), mask)
        fn.do("ret void")
        fn.define()

    def add_raw(self, name: str, params: Sequence[tuple[str, str]], width: int,
                write: Callable[[LaneBuilder], None]) -> None:
        """A void function of ``params`` whose body ``write`` emits."""
        fn = FunctionWriter(self.module, _symbol(name), "void", params)
        write(self.builder(fn, width))
        fn.do("ret void")
        fn.define()

    def object(self) -> bytes:
        """The optimised module as an object file."""
        machine = self.target.machine()
        module = llvm.parse_assembly(self.module.text())
        module.verify()
        optimise(module, machine)
        return bytes(machine.emit_object(module))

    def address(self, name: str) -> int:
        if self._engine is None:
            machine = self.target.machine()
            module = llvm.parse_assembly(self.module.text())
            module.verify()
            optimise(module, machine)
            self._engine = llvm.create_mcjit_compiler(module, machine)
            self._engine.finalize_object()
        return int(self._engine.get_function_address(_symbol(name)))

    def call(self, name: str, *args: np.ndarray | int) -> None:
        """Call a function with the addresses of arrays and i64 numbers."""
        types = [ctypes.c_void_p if isinstance(a, np.ndarray) else ctypes.c_int64 for a in args]
        values = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in args]
        ctypes.CFUNCTYPE(None, *types)(self.address(name))(*values)

    def run(self, name: str, *arrays: np.ndarray) -> np.ndarray:
        """The result of a function made by ``add``."""
        contiguous = [np.ascontiguousarray(a) for a in arrays]
        out = np.empty(len(contiguous[0]), numpy_dtype(self.results[name]))
        self.call(name, *contiguous, out, len(out))
        return out
