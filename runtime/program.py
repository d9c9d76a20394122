"""A program: one fetch structure and feed list of one session, compiled in variants as feeds ask
for them.

The ``Step`` that callers hold runs the native entry of the variant that ran last. Whatever that
entry refuses (lists, other shapes, missing or surplus arguments, uninitialised variables) comes to
``miss``, which converts, finds or compiles the variant that fits, and runs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepforge.codegen.jit import Level
from stepforge.codegen.signature import Feed, Structure
from stepforge.frontend.extract.program import FeedKey, Request, extract, needed
from stepforge.ir import dims
from stepforge.ir.core import Site
from stepforge.ir.dims import Dim
from stepforge.ir.errors import FailedPreconditionError, InvalidArgumentError
from stepforge.ir.types import Type, unify_numpy_shape
from stepforge.runtime import errors, python_entry
from stepforge.runtime.pipeline import STAGES, Variant, compile_variant, interpret, link
from stepforge.runtime.step import make_step, retarget

MAX_VARIANTS = 8
# A first run may be the only one, so it gets code that compiles fast.
FIRST_LEVEL: Level = "O0"
FINAL_LEVEL: Level = "O2"


class Program:
    """See the module's text. ``pack`` builds the result of a "packed" structure."""

    def __init__(
        self,
        session: Any,
        leaves: Sequence[Any],
        feeds: Sequence[Any],
        structure: Structure,
        pack: Callable[[list[Any]], Any] | None,
        name: str,
    ) -> None:
        self.session = session
        self.leaves = tuple(leaves)
        self.feeds = tuple(feeds)
        self.structure = structure
        self.name = name
        self._pack = pack
        self._keys = [_feed_key(tensor) for tensor in feeds]
        self._specs = [_spec(tensor, key) for tensor, key in zip(feeds, self._keys, strict=True)]
        self.variants: list[Variant] = []
        self.current: Variant | None = None
        self.compiles: list[str] = []  # why each variant was compiled
        self.step = make_step(self, 0, 0)

    # ---- what native code calls -----------------------------------------------------------------
    def miss(self, *arguments: Any) -> Any:
        """Run with feeds that the native entry does not take as they are.

        Raises: what TensorFlow raises for the same mistake.
        """
        if self.session.closed:
            raise errors.closed_session()
        self._check_count(arguments)
        arrays = [
            python_entry.convert_feed(value, spec)
            for value, spec in zip(arguments, self._specs, strict=True)
        ]
        variant = self._variant(arrays)
        self._check_variables(variant)
        if not variant.native:
            return self._packed(interpret(variant, arrays, self.session.store))
        if variant.level == FIRST_LEVEL and variant is self.current:
            link(variant, FINAL_LEVEL)  # the second call: this step is worth its code
        self._install(variant)
        return python_entry.call_kernel(
            variant.signature, variant.kernel_address, variant.table_address, arrays, self
        )

    def fail(self, context: int) -> Any:
        """Raise the error that a kernel reported."""
        assert self.current is not None
        error = self.current.failure(context)
        self.session.annotate(error)
        raise error

    def pack(self, values: list[Any]) -> Any:
        """The result in the fetch structure."""
        return self._pack(values) if self._pack is not None else values

    def _packed(self, values: list[Any]) -> Any:
        if self.structure == "single":
            return values[0]
        if self.structure == "tuple":
            return tuple(values)
        return values if self.structure == "list" else self.pack(values)

    def _check_count(self, arguments: Sequence[Any]) -> None:
        if len(arguments) > len(self.feeds):
            raise TypeError(
                f"{self.name}() takes {len(self.feeds)} feeds"
                f" ({', '.join(t.name for t in self.feeds)})"
                f" but {len(arguments)} were given"
            )
        if len(arguments) < len(self.feeds):
            tensor = self.feeds[len(arguments)]
            raise InvalidArgumentError(
                None,
                tensor.op,
                f"You must feed a value for placeholder tensor '{tensor.op.name}' "
                f"with dtype {tensor.dtype.name}",
                site=tensor.op.site,
            )

    def _check_variables(self, variant: Variant) -> None:
        """Raises: FailedPreconditionError for a variable that is read before it has a value."""
        for slot in variant.signature.slots:
            node = variant.extraction.variables[slot.name]
            if slot.read and not self.session.store.cell(node, slot.type.dtype).initialized:
                raise FailedPreconditionError(
                    None, node, f"Attempting to use uninitialized value {node.name}", site=node.site
                )

    # ---- variants -------------------------------------------------------------------------------
    def _variant(self, arrays: Sequence[np.ndarray[Any, Any]]) -> Variant:
        """The variant for the shapes at hand, compiled if there is none."""
        for position, variant in enumerate(self.variants):
            if self._fits(variant, [a.shape for a in arrays]):
                self.variants.insert(0, self.variants.pop(position))
                return variant
        return self.compile([a.shape for a in arrays], "no variant has these shapes")

    def _fits(self, variant: Variant, shapes: Sequence[tuple[int, ...]]) -> bool:
        sizes: dict[str, int] = {}
        pairs: list[tuple[Type, tuple[int, ...]]] = list(
            zip((f.type for f in variant.signature.feeds), shapes, strict=True)
        )
        for slot in variant.signature.slots:
            node = variant.extraction.variables[slot.name]
            shape = self.session.store.shape(node)
            if slot.read and shape is not None:
                pairs.append((slot.type, shape))
        for _ in range(2):  # compound sizes are checked once all names are known
            if any(unify_numpy_shape(type_, shape, sizes) for type_, shape in pairs):
                return False
        return all(_equal(a, b, sizes) for a, b in variant.signature.assumptions)

    def compile(
        self, shapes: Sequence[tuple[int, ...] | None] | None, reason: str, level: Level = FIRST_LEVEL
    ) -> Variant:
        """Compile the variant for feeds of ``shapes`` (None: not known yet)."""
        given = shapes if shapes is not None else [None] * len(self._keys)
        keys = [
            FeedKey(k.tensor, k.dtype, k.shape, shape)
            for k, shape in zip(self._keys, given, strict=True)
        ]
        request = Request(self.leaves, keys, self.session.store.shape, self.name)
        extraction = extract(request)
        nodes = needed(self.leaves, set(self.feeds))
        variant = compile_variant(
            extraction,
            self.session.store,
            name=self.name,
            structure=self.structure,
            level=level,
            nodes=nodes,
        )
        self.variants.insert(0, variant)
        del self.variants[MAX_VARIANTS:]
        self.compiles.append(reason)
        self.session.compiled(self, variant, reason)
        _dump(variant)
        return variant

    def _install(self, variant: Variant) -> None:
        self.current = variant
        if variant.entry_address and variant.level == FINAL_LEVEL:
            retarget(self.step, variant.entry_address, variant.table_address)

    def prepare(self) -> None:
        """Compile before the first call, where all ranks are known."""
        if all(key.shape is not None for key in self._keys):
            variant = self.compile(None, "make_callable", FINAL_LEVEL)
            if variant.native:
                self._install(variant)

    # ---- looking at it --------------------------------------------------------------------------
    def text(self, stage: str = "fused") -> str:
        """The text of a stage (graph, tensor, fused, loops, llvm, asm) of the variant that ran
        last.
        """
        if not self.variants:
            self.compile(None, "text")
        return self.variants[0].text(stage)

    def close(self) -> None:
        """Send every further call through ``miss``, which says that the session is closed."""
        retarget(self.step, 0, 0)


def _equal(a: Dim, b: Dim, sizes: dict[str, int]) -> bool:
    return dims.evaluate(a, sizes) == dims.evaluate(b, sizes)


def _feed_key(tensor: Any) -> FeedKey:
    shape = tensor.shape.as_list() if tensor.shape.ndims is not None else None
    return FeedKey(tensor, tensor.dtype.base_dtype.ir, tuple(shape) if shape is not None else None)


def _spec(tensor: Any, key: FeedKey) -> Feed:
    """What conversion in Python checks:

    the static shape, unknown sizes as names that never clash.
    """
    shape: tuple[Dim, ...] | None = None
    if key.shape is not None:
        shape = tuple(dims.named(f"_{i}") if n is None else n for i, n in enumerate(key.shape))
    site: Site = tensor.op.site
    return Feed(tensor.name, Type(key.dtype, shape), Site(tensor.name, site.file, site.line))


def _dump(variant: Variant) -> None:
    """Write every stage to the folder that STEPFORGE_DUMP names."""
    folder = os.environ.get("STEPFORGE_DUMP")
    if not folder:
        return
    os.makedirs(folder, exist_ok=True)
    number = sum(1 for n in os.listdir(folder) if n.endswith(".graph.txt"))
    for stage in STAGES:
        suffix = {"llvm": "ll", "asm": "s", "graph": "txt"}.get(stage, "sf")
        path = os.path.join(folder, f"{variant.signature.name}_{number}.{stage}.{suffix}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(variant.text(stage))
