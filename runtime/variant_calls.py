"""Calls of a variant with arrays of the dtypes that it wants, as feeds are once converted.

Native code that is called by its entry has none that Python could call otherwise, so the entry is
called again, as of a step of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepforge.ir.errors import InternalError
from stepforge.ir.types import numpy_dtype
from stepforge.runtime import python_entry
from stepforge.runtime.step import Program, make_step

if TYPE_CHECKING:
    from stepforge.runtime.variant import Variant

Array = np.ndarray[Any, Any]


def call(variant: Variant, arrays: Sequence[Array], program: Program) -> Any:
    """Run a variant on arrays that ``convert_feed`` gave; the result in its structure.

    Raises: VariantMismatch where sizes or assumptions do not hold, FailedPreconditionError for a
    variable without value, what ``program.fail`` raises where the kernel fails.
    """
    signature, table = variant.signature, variant.table_address
    if not variant.entry_address:
        address = variant.kernel_address
        return python_entry.call_kernel(signature, address, table, arrays, program)
    exact = [
        np.require(array, numpy_dtype(feed.type.dtype), ["C", "A"])
        for array, feed in zip(arrays, signature.feeds, strict=True)
    ]
    return make_step(_Refused(variant, program), table)(*exact)


class _Refused:
    """The program of such a step: it says why the entry refuses arrays."""

    def __init__(self, variant: Variant, program: Program) -> None:
        self.variant = variant
        self.fail = program.fail
        self.pack = program.pack

    def miss(self, *arguments: Any, **keywords: Any) -> Any:
        """Raise what is wrong with the arrays, the variables or the memory."""
        signature = self.variant.signature
        python_entry.check_call(signature, self.variant.table_address, arguments)
        raise InternalError(None, None, f"{signature.name}: native code refused its feeds")
