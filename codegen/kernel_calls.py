"""Functions beside a kernel that only call one: the way to one of another back end, and the way in
for callers without an entry.
"""

from __future__ import annotations

from stepforge.codegen import signature as abi
from stepforge.codegen.kernel import KERNEL_PARAMS, KernelPlan
from stepforge.codegen.llvm import AS_WRITTEN, FunctionWriter, ModuleWriter


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


def emit_alone(module: ModuleWriter, name: str) -> str:
    """A kernel for callers without an entry, such as Python, for which its call is the least: the
    kernel that entries are optimised with is not compiled twice.
    """
    fn = FunctionWriter(module, f"{name}_alone", "i32", KERNEL_PARAMS, attributes=AS_WRITTEN)
    status = fn.call("i32", f"@{name}", *((type_, f"%{param}") for type_, param in KERNEL_PARAMS))
    fn.do(f"ret i32 {status}")
    return fn.define()
