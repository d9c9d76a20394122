"""The kernel of a step whose loops another back end compiles: the way to that."""

from __future__ import annotations

from stepforge.codegen import signature as abi
from stepforge.codegen.kernel import KERNEL_PARAMS, KernelPlan
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter


def emit_forward(module: ModuleWriter, plan: KernelPlan) -> str:
    """The kernel that entries call where that of another back end is in the table: it goes there.
    """
    fn = FunctionWriter(
        module, plan.name, "i32", KERNEL_PARAMS, linkage=plan.linkage, attributes="alwaysinline"
    )
    table = fn.load("ptr", "%ctx", abi.CONTEXT_TABLE)
    callee = fn.load("ptr", table, 8 * abi.TABLE_KERNEL)
    status = fn.call("i32", callee, *((type_, f"%{param}") for type_, param in KERNEL_PARAMS))
    fn.do(f"ret i32 {status}")
    return fn.define()
