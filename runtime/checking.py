"""Compiles that are checked: ``STEPFORGE_CHECK=1``, or ``checked`` of a session's variable store.

Every pass of such a compile is verified. The first run of a variant then evaluates the function
after each pass, at both levels, on the feeds and variables at hand, and at last runs the native
code; the first of them that changes a result, a variable or an error is named, with the operation
and the user's line. Further runs are native. A step that prints or calls Python functions is
verified only: each evaluation would repeat its effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from stepforge.ir.errors import InternalError, OpError
from stepforge.passes.bisect import Culprit, Run, agree, compare
from stepforge.runtime import python_entry, variant_calls
from stepforge.runtime.variables import VariableStore

if TYPE_CHECKING:
    from stepforge.runtime.variant import Variant

Array = np.ndarray[Any, Any]


def first_run(variant: Variant, arrays: Sequence[Array], store: VariableStore) -> list[Any] | None:
    """Check a variant and run its native code; the values of its fetches, None where it has none.

    No other step writes meanwhile. Raises: what the step raises; InternalError that names the pass
    that is wrong, variables as they were.
    """
    assert variant.trail is not None
    if any(op.defn.effect == "host" for op in variant.extraction.function.walk()):
        variant.trail = None  # what it does outside would be done once for each pass
        return _call(variant, arrays) if variant.compiled else None
    with python_entry.locked(store.lock_address):
        before = _state(variant, store)
        culprit = compare(variant.trail.stages, arrays, before)
        if culprit is not None:
            _blame(culprit)
        values = _native(variant, arrays, store, before) if variant.compiled else None
        variant.trail = None
    return values


def _native(
    variant: Variant, arrays: Sequence[Array], store: VariableStore, before: dict[str, Any]
) -> list[Any]:
    """What native code gives, which must be what the evaluator gives."""
    reference = Run(variant.stages["tensor"], arrays, before)
    error: OpError | None = None
    values: list[Any] = []
    try:
        values = _call(variant, arrays)
    except OpError as raised:
        error = raised
    difference = _difference(variant, reference, values, error, _state(variant, store))
    if difference:
        for name, variable in _cells(variant, store).items():
            if before[name] is not None:
                variable.value = before[name]
        _blame(Culprit("native code", None, difference))
    if error is not None:
        raise error
    return values


def _blame(culprit: Culprit) -> NoReturn:
    raise InternalError(None, None, str(culprit), site=culprit.site)


def _cells(variant: Variant, store: VariableStore) -> dict[str, Any]:
    globals_ = variant.extraction.function.globals
    return {
        name: store.cell(node, globals_[name].type.dtype)
        for name, node in variant.extraction.variables.items()
    }


def _state(variant: Variant, store: VariableStore) -> dict[str, Any]:
    """Copies of the variables, and the random streams as they are."""
    state: dict[str, Any] = {n: cell.value for n, cell in _cells(variant, store).items()}
    streams = variant.extraction.streams.items()
    return {**state, **{name: store.stream(node) for name, node in streams}}


class _Caller:
    """What ``variant_calls.call`` asks of a program."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant

    def miss(self, *arguments: Any, **keywords: Any) -> Any:
        """Nothing is compiled here."""
        raise python_entry.VariantMismatch(f"{self.variant.signature.name} is being checked")

    def fail(self, context: int) -> Any:
        """Raise what the kernel reports."""
        raise self.variant.failure(context)

    def pack(self, values: list[Any]) -> Any:
        """The values as they are."""
        return values


def _call(variant: Variant, arrays: Sequence[Array]) -> list[Any]:
    returned = variant_calls.call(variant, arrays, _Caller(variant))
    return [returned] if variant.signature.structure == "single" else list(returned)


def _difference(
    variant: Variant,
    reference: Run,
    values: Sequence[Any],
    error: OpError | None,
    state: dict[str, Any],
) -> str:
    """In words, what native code gave that the evaluator did not."""
    if type(error) is not type(reference.error):
        return f"it raises {error!r}, the evaluator {reference.error!r}"
    for fetched, value in zip(variant.extraction.fetches, values, strict=False):
        if fetched.kind == "value":
            want = reference.results[fetched.index]
            if not agree(np.asarray(value), want):
                return f"result {fetched.index} is {value} instead of {want}"
    for name in variant.extraction.variables:
        want = reference.state[name]
        if not (state[name] is None and want is None) and not agree(state[name], want):
            return f"@{name} is {state[name]} instead of {want}"
    return ""
