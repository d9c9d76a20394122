"""Which back end makes the kernel of a step: LLVM, or numba where that is asked for.

``ConfigProto.experimental.executor_type`` is TensorFlow's own field for it ("numba", "llvm"; "" and
"DEFAULT" leave it to the environment variable ``STEPFORGE_BACKEND``). What numba cannot do, as
16-bit floats, runs its LLVM kernel instead; ``note`` says why.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from stepforge.codegen import kernel, numba, numba_library, target
from stepforge.codegen.kernel import Check, KernelPlan
from stepforge.codegen.llvm import ModuleWriter
from stepforge.codegen.numba_scalars import NotForNumba
from stepforge.ir.errors import NotFoundError

BACKENDS = ("llvm", "numba")


@dataclass(frozen=True)
class MadeKernel:
    """A kernel, in ``module`` by the name ``kernel``, and what belongs to it.

    ``source`` is the Python that numba compiles; ``calls`` are functions of the module that the
    step's table holds behind the slots.
    """

    module: ModuleWriter
    backend: str
    checks: Sequence[Check]
    source: str = ""
    calls: Sequence[str] = ()
    note: str = ""


def chosen(wanted: str) -> str:
    """The back end that a session wants, as its executor type says it.

    Raises: NotFoundError for one that there is not, as TensorFlow does when a step is run.
    """
    name = wanted if wanted not in ("", "DEFAULT") else os.environ.get("STEPFORGE_BACKEND", "")
    name = name or "llvm"
    if name not in BACKENDS:
        raise NotFoundError(
            None,
            None,
            f"No executor factory registered for the given executor type: {name} "
            f"Registered factories are {{DEFAULT, {', '.join(BACKENDS)}}}.",
        )
    return name


def make_kernel(plan: KernelPlan, backend: str) -> MadeKernel:
    """Write the kernel of ``plan``. Raises: ImportError where numba is wanted and missing."""
    note = ""
    if backend == "numba":
        numba_library.numba()
        module = _module()
        try:
            made = numba.write_kernel(module, plan, target.host())
            return MadeKernel(module, backend, made.checks, made.source, made.calls)
        except NotForNumba as reason:
            note = f"numba has no {reason}"
    module = _module()
    checks = kernel.emit_kernel(module, plan, target.host()).checks
    return MadeKernel(module, "llvm", checks, note=note)


def python_source(plan: KernelPlan) -> str:
    """The Python that the numba back end makes of a plan; a comment where it makes none."""
    try:
        return numba.write_kernel(_module(), plan, target.host()).source
    except NotForNumba as reason:
        return f"# numba has no {reason}\n"


def _module() -> ModuleWriter:
    return ModuleWriter(target.host().triple, target.host().attributes)
