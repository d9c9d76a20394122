"""The back ends, in one table: what makes the kernel of a step.

``ConfigProto.experimental.executor_type`` is TensorFlow's own field for the choice ("llvm",
"numba"; "" and "DEFAULT" leave it to the environment variable ``STEPFORGE_BACKEND``). What a back
end does not support, as numba 16-bit floats, runs the LLVM kernel instead; ``note`` says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeAlias

from stepforge.codegen import kernel, kernel_forward, target
from stepforge.codegen.kernel import Check, KernelPlan, NotSupported
from stepforge.codegen.llvm import ModuleWriter
from stepforge.ir.errors import NotFoundError
from stepforge.ir.records import record

DEFAULT = "llvm"  # the back end that supports everything


class Code(Protocol):
    """A C function ``i32 f(ctx, feeds, outs, dims)``, there for as long as the object lives."""

    @property
    def address(self) -> int:
        """Where it is."""


@record(frozen=True)
class MadeKernel:
    """A kernel. Either it is in the step's module, or ``code`` makes it outside of it.

    ``checks`` are what its positive results mean; ``source`` is its text where the back end has one
    of its own; ``calls`` are functions of the module that the step's table holds behind the slots;
    ``shares`` says that it has loops for the pool of threads.
    """

    checks: Sequence[Check] = ()
    source: str = ""
    calls: Sequence[str] = ()
    code: Callable[[], Code] | None = None
    backend: str = ""
    note: str = ""
    shares: bool = False


Write: TypeAlias = Callable[[ModuleWriter, KernelPlan], MadeKernel]


@record(frozen=True)
class Backend:
    """``write`` makes kernels, or raises NotSupported; ``suffix`` is that of its sources' files."""

    write: Write
    suffix: str = ""


BACKENDS: dict[str, Backend] = {}


def define_backend(name: str, *, suffix: str = "") -> Callable[[Write], Write]:
    """Declare the decorated function as the back end ``name``.

    With a ``suffix``, ``step.text(name)`` has the source that it makes.
    Raises: ValueError where there is one of that name.
    """
    if name in BACKENDS:
        raise ValueError(f"the back end {name!r} is declared twice")

    def define(write: Write) -> Write:
        BACKENDS[name] = Backend(write, suffix)
        return write

    return define


@define_backend(DEFAULT)
def _llvm(module: ModuleWriter, plan: KernelPlan) -> MadeKernel:
    made = kernel.emit_kernel(module, plan, target.host())
    return MadeKernel(made.checks, shares=made.shares)


@define_backend("numba", suffix="py")
def _numba(module: ModuleWriter, plan: KernelPlan) -> MadeKernel:
    from stepforge.codegen import numba, numba_compile

    made = numba.write_kernel(module, plan, target.host())
    code = partial(numba_compile.compile_source, made.source, plan.function.name)
    return MadeKernel(made.checks, made.source, made.calls, code, shares=made.shares)


def sources() -> dict[str, str]:
    """The back ends that have sources of their own, each with the suffix of their files."""
    return {name: backend.suffix for name, backend in BACKENDS.items() if backend.suffix}


def chosen(wanted: str) -> str:
    """The back end that a session wants, as its executor type says it.

    Raises: NotFoundError for one that there is not, as TensorFlow does when a step is run.
    """
    name = wanted if wanted not in ("", "DEFAULT") else os.environ.get("STEPFORGE_BACKEND", "")
    name = name or DEFAULT
    if name not in BACKENDS:
        raise NotFoundError(
            None,
            None,
            f"No executor factory registered for the given executor type: {name} "
            f"Registered factories are {{DEFAULT, {', '.join(BACKENDS)}}}.",
        )
    return name


def make_kernel(plan: KernelPlan, backend: str) -> tuple[ModuleWriter, MadeKernel]:
    """The kernel of ``plan`` by ``backend``, or else by LLVM, and the module that it belongs to."""
    try:
        module = _module()
        made = replace(BACKENDS[backend].write(module, plan), backend=backend)
    except NotSupported as reason:
        note = f"{backend} has no {reason}"
        module, made = make_kernel(plan, DEFAULT)
        return module, replace(made, note=note)
    if made.code is not None:
        kernel_forward.emit_forward(module, plan)
    return module, made


def source_of(plan: KernelPlan, backend: str) -> str:
    """The source that ``backend`` makes of a plan; a comment where it makes none."""
    try:
        return BACKENDS[backend].write(_module(), plan).source
    except NotSupported as reason:
        return f"# {backend} has no {reason}\n"


def _module() -> ModuleWriter:
    return ModuleWriter(target.host().triple, target.host().attributes)
