"""A function that was written as IR, as a step that can be called: compiled like one of a graph.

There is no graph behind it and no session: its variables have the values that they are given, and
one function is one variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stepforge.codegen.signature import Feed
from stepforge.ir import dims
from stepforge.ir.core import Function, Value
from stepforge.ir.types import Type
from stepforge.runtime import python_entry, variant_calls
from stepforge.runtime.ahead_steps import function_extraction
from stepforge.runtime.job import Job
from stepforge.runtime.pipeline import FINAL_LEVEL, compile_variant, hand_over
from stepforge.runtime.python_entry import VariantMismatch
from stepforge.runtime.step import make_step, retarget
from stepforge.runtime.variables import VariableStore
from stepforge.runtime.variant import Variant, interpret


class TextProgram:
    """What the ``step`` of a function asks for; see ``step.Program``. ``results`` are names."""

    def __init__(self, function: Function, values: Mapping[str, Any], threads: int = 0) -> None:
        extraction = function_extraction(function)
        self.name = function.name
        self.store = VariableStore(threads)
        for name, node in extraction.variables.items():
            if name in values:
                dtype = function.globals[name].type.dtype
                self.store.cell(node, dtype).value = values[name]
        self._feeds = [Feed(p.name, _open(p.type)) for p in function.params]
        job = Job(extraction, self.store, function.name, "list", FINAL_LEVEL)
        self.variants = [compile_variant(job)]
        self.results = result_names(function)
        self.step = make_step(self)
        if self._variant.native and self._variant.entry_address:
            hand_over(self.variants, self._variant)
            retarget(self.step, self._variant.table_address)

    @property
    def _variant(self) -> Variant:
        return self.variants[0]

    def miss(self, *arguments: Any, **keywords: Any) -> Any:
        """Run with arguments that the native entry does not take as they are.

        Raises: TypeError and ValueError for arguments that do not fit, OpError as operations do.
        """
        if keywords or len(arguments) != len(self._feeds):
            names = ", ".join(feed.name for feed in self._feeds)
            raise TypeError(f"{self.name}() takes {len(self._feeds)} feeds ({names})")
        pairs = zip(arguments, self._feeds, strict=True)
        arrays = [python_entry.convert_feed(value, feed) for value, feed in pairs]
        variant = self._variant
        if not variant.native:
            return interpret(variant, arrays, self.store)
        try:
            return variant_calls.call(variant, arrays, self)
        except VariantMismatch as error:
            raise ValueError(f"{self.name}(): {error}") from None

    def fail(self, context: int) -> Any:
        """Raise the error that the kernel reported."""
        raise self._variant.failure(context)

    def pack(self, values: list[Any]) -> Any:
        """The results as they are."""
        return values

    def text(self, stage: str = "fused") -> str:
        """The text of a stage."""
        return self._variant.text(stage)

    def dump(self, path: Any = None, **options: Any) -> str:
        """The step as text, page or drawing; see ``runtime.show.dumps.dump``."""
        from stepforge.runtime.show import dumps, subject

        return dumps.dump(subject.of_variant(self.name, self._variant), path, **options)


def result_names(function: Function) -> list[str]:
    """What the results are called: as in the text, or by their number."""
    found: list[str] = []
    for index, value in enumerate(function.results):
        name = value.name if isinstance(value, Value) else ""
        found.append(name if name and name not in found else f"result_{index}")
    return found


def _open(type_: Type) -> Type:
    """The type without what only the entry compares: which sizes are equal."""
    shape: Sequence[Any] | None = type_.shape
    if shape is None:
        return type_
    return type_.with_shape(tuple(
        size if isinstance(size, int) else dims.named(f"_{axis}") for axis, size in enumerate(shape)
    ))
