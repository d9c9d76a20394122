"""From LLVM text to running code: optimise, emit an object, link it into this process.

The two halves are apart so that objects can be kept: ``compile_text`` gives bytes that are the same
in every process, ``load`` binds their undefined names to the addresses of this one; ``build`` does
both, and asks the disk first.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal

from stepforge.codegen import target as targets
from stepforge.codegen.disk_cache import disk_cache, key_of
from stepforge.codegen.target import Target

Level = Literal["O0", "O1", "O2"]

TOOLS = ("STEPFORGE_PERF", "STEPFORGE_GDB")  # who may want to know the names of functions

# Optimisation by LLVM's code generator, 0 to 3.
_GENERATOR = {"O0": 0, "O1": 2, "O2": 2}

# O1: what our own text leaves to do, in a tenth of the time of LLVM's pipeline. Loops are written
# with their test at the end, values that do not change before them, and vectors by ourselves;
# only what is marked ``alwaysinline`` is expanded.
_SHORT_PIPELINE = (
    "always_inliner",
    "ipsccp",  # functions that all calls give the same sizes are made for these
    "sroa",
    "instruction_combine",
    "simplify_cfg",
    "global_dead_code_eliminate",
)


class CompiledObject(bytes):
    """Object code of one module: relocatable, without any address of a process in it."""

    __slots__ = ()

    @property
    def undefined(self) -> tuple[str, ...]:
        """The names that must come from outside, sorted; empty for objects that are not ELF."""
        if self[:5] != b"\x7fELF\2":
            return ()
        from stepforge.codegen.elf import ElfObject

        return ElfObject(self).undefined


class Library:
    """Code that is linked into this process, for as long as this object lives.

    ``library["entry"]`` is the address of an exported name.
    """

    def __init__(self, tracker: Any, exports: tuple[str, ...], *, stored: bool = False) -> None:
        self._tracker = tracker
        self.exports = exports
        self.stored = stored  # its object was on disk

    def __getitem__(self, name: str) -> int:
        return int(self._tracker[name])


def compile_text(
    text: str, level: Level = "O2", target: Target | None = None, *, pic: bool = False
) -> CompiledObject:
    """The object code of a module.

    ``level`` is "O0" (compiles fast), "O1" (a short list of passes) or "O2" (LLVM's whole pipeline,
    but for its vectorisers). ``pic`` is for objects that a linker shall take. Raises: ValueError
    where LLVM cannot read the text.
    """
    module, machine = _optimised(text, level, target, pic)
    return CompiledObject(machine.emit_object(module))


def assembly(
    text: str, level: Level = "O2", target: Target | None = None, *, pic: bool = False
) -> str:
    """The assembler text of what ``compile_text`` makes."""
    module, machine = _optimised(text, level, target, pic)
    return str(machine.emit_assembly(module))


def optimised_text(text: str, level: Level = "O2", target: Target | None = None) -> str:
    """The LLVM text of a module after LLVM's passes."""
    return str(_optimised(text, level, target, False)[0])


def build(
    text: str, level: Level, symbols: Mapping[str, int], exports: Iterable[str]
) -> Library:
    """Compile a module for this processor and link it, by the object on disk where there is one.

    Raises: what ``compile_text`` and ``load`` raise.
    """
    store = disk_cache()
    if store is None:
        return load(compile_text(text, level), symbols, exports)
    key = object_key(text, level)
    found = store.get(key)
    if found is None:
        compiled = compile_text(text, level)
        store.put(key, compiled)
        return load(compiled, symbols, exports)
    return load(found, symbols, exports, stored=True)


def is_stored(text: str, level: Level) -> bool:
    """True where ``build`` would find the object on disk."""
    store = disk_cache()
    return store is not None and object_key(text, level) in store


def stored(key: str, symbols: Mapping[str, int], exports: Iterable[str]) -> Library | None:
    """The library of the object under an ``object_key``; None where the disk has it no more."""
    store = disk_cache()
    found = store.get(key) if store is not None else None
    return load(found, symbols, exports, stored=True) if found is not None else None


def object_key(text: str, level: Level) -> str:
    """What the object of ``text`` is called on disk."""
    host = targets.host()
    version = ".".join(map(str, targets.llvm().llvm_version_info))
    return key_of((version, host.triple, host.cpu, host.features, level, text))


def load(
    compiled: bytes, symbols: Mapping[str, int], exports: Iterable[str], *, stored: bool = False
) -> Library:
    """Link an object into this process.

    ``symbols`` gives the addresses of names that it needs; what is in none of them is looked for
    among the names of the process (libm, the C library). Raises: RuntimeError naming what is
    missing.
    """
    names = tuple(exports)
    builder = targets.llvm().JITLibraryBuilder().add_object_img(compiled)
    for name, address in symbols.items():
        builder.import_symbol(name, address)
    for name in names:
        builder.export_symbol(name)
    try:
        tracker = builder.link(_linker(), f"library{next(_counter)}")
    except RuntimeError as error:
        missing = set(CompiledObject(compiled).undefined) - symbols.keys()
        raise RuntimeError(f"cannot link, of {sorted(missing)} something is missing") from error
    if any(os.environ.get(tool, "") not in ("", "0") for tool in TOOLS):
        from stepforge.codegen import jit_symbols

        jit_symbols.announce(compiled, {name: int(tracker[name]) for name in names})
    return Library(tracker, names, stored=stored)


_counter = itertools.count()


@cache
def _linker() -> Any:
    """LLVM's in-process linker; it keeps some 8 KB for each library that was ever linked."""
    machine = targets.machine(targets.host(), 2)
    return targets.llvm().create_lljit_compiler(machine, use_jit_link=True)


def _optimised(text: str, level: Level, target: Target | None, pic: bool) -> tuple[Any, Any]:
    binding = targets.llvm()
    machine = targets.machine(target or targets.host(), _GENERATOR[level], pic=pic)
    try:
        # a context of its own: the global one keeps every constant of every module for good
        module = binding.parse_assembly(text, binding.create_context())
    except RuntimeError as error:
        raise ValueError(f"LLVM rejects the text: {error}") from error
    _run_passes(module, machine, level)
    return module, machine


def _run_passes(module: Any, machine: Any, level: Level) -> None:
    """Run LLVM's passes without its vectorisers: vectors are made by our own code generation.

    None at O0, where even the expansion of a function costs more than it can save in one run.
    """
    if level == "O0":
        return
    binding = targets.llvm()
    options = binding.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = False
    options.slp_vectorization = False
    builder = binding.create_pass_builder(machine, options)  # good for one run only
    if level == "O1":
        passes = binding.create_new_module_pass_manager()
        for name in _SHORT_PIPELINE:
            getattr(passes, f"add_{name}_pass")()
    else:
        passes = builder.getModulePassManager()
    passes.run(module, builder)
    # llvmlite's own clean-up of a pass manager frees nothing: some 100 KB for every run.
    binding.newpassmanagers.NewPassManager._dispose(passes)
    passes.detach()
