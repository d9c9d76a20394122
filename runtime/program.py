"""A program: one fetch structure and feed list of one session, compiled in variants as feeds ask
for them.

The ``Step`` that callers hold runs the native entry of the variant that ran last. Whatever that
entry refuses (lists, other shapes, missing or surplus arguments, uninitialised variables) comes to
``miss``, which converts, finds or compiles the variant that fits, and runs it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stepforge.codegen import layout
from stepforge.codegen import signature as abi
from stepforge.codegen.jit import Level
from stepforge.codegen.signature import Feed, Structure
from stepforge.frontend.extract.order import needed
from stepforge.frontend.extract.program import FeedKey, Request, extract, missing_feed
from stepforge.frontend.extract.state import uninitialized
from stepforge.ir import dims
from stepforge.ir.core import Site
from stepforge.ir.dims import Dim
from stepforge.ir.errors import InternalError, OpError, ResourceExhaustedError
from stepforge.ir.types import Type
from stepforge.runtime import errors, python_entry, variant_calls
from stepforge.runtime.feeds import check_value
from stepforge.runtime.handles import fed
from stepforge.runtime.job import Job
from stepforge.runtime.pipeline import (
    FINAL_LEVEL,
    FIRST_LEVEL,
    compile_variant,
    hand_over,
    link,
)
from stepforge.runtime.step import make_step, retarget
from stepforge.runtime.variant import Variant, interpret

Array = np.ndarray[Any, Any]

# How often a variable may get another shape between the choice of a variant and its run.
ATTEMPTS = 16
FIRST_RUN = "first run of these fetches and feeds"


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
        self._store = session.store  # a step that runs outlives the session's close
        self._keys = [_feed_key(tensor) for tensor in feeds]
        self._specs = [_spec(tensor, key) for tensor, key in zip(feeds, self._keys, strict=True)]
        self._lock = threading.RLock()  # held while variants are looked up, made and installed
        # The one that ran last comes first. None is dropped: a thread may be in its code.
        self.variants: list[Variant] = []
        self.current: Variant | None = None
        self.step = make_step(self)

    # ---- what native code calls -----------------------------------------------------------------
    def miss(self, *arguments: Any, **keywords: Any) -> Any:
        """Run with feeds that the native entry does not take as they are.

        Raises: what TensorFlow raises for the same mistake.
        """
        if self.session.closed:
            raise errors.closed_session()
        if keywords:
            raise self.unexpected(next(iter(keywords)))
        self._check_count(arguments)
        arrays = [
            self._array(value, tensor, spec)
            for value, tensor, spec in zip(arguments, self.feeds, self._specs, strict=True)
        ]
        for _ in range(ATTEMPTS):
            variant = self._choose(arrays)
            with contextlib.suppress(python_entry.VariantMismatch):
                return self._run(variant, arguments, arrays)
        raise InternalError(None, None, f"{self.name}: no variant fits the shapes of its variables")

    def fail(self, context: int) -> Any:
        """Raise the error that a kernel reported."""
        table = layout.word(context, abi.CONTEXT_TABLE)
        with self._lock:
            variant = next(v for v in self.variants if v.table_address == table)
        error = variant.failure(context)
        self.session.annotate(error)
        raise error

    def pack(self, values: list[Any]) -> Any:
        """The result in the fetch structure."""
        return self._pack(values) if self._pack is not None else values

    # ---- one run --------------------------------------------------------------------------------
    def unexpected(self, keyword: str) -> TypeError:
        """The error of a call with a keyword that it does not take."""
        hint = ": make_callable(..., accept_options=True) gives a callable that does"
        return TypeError(
            f"{self.name}() got an unexpected keyword argument {keyword!r}"
            f"{hint if keyword in ('options', 'run_metadata') else ''}"
        )

    def _check_count(self, arguments: Sequence[Any]) -> None:
        if len(arguments) > len(self.feeds):
            raise TypeError(
                f"{self.name}() takes {len(self.feeds)} feeds"
                f" ({', '.join(t.name for t in self.feeds)})"
                f" but {len(arguments)} were given"
            )
        if len(arguments) < len(self.feeds):
            raise missing_feed(self.feeds[len(arguments)].op)

    def _array(self, value: Any, tensor: Any, spec: Feed) -> Array:
        check_value(value, tensor)
        return python_entry.convert_feed(fed(value, tensor), spec)

    def _choose(self, arrays: Sequence[Array]) -> Variant:
        """The variant for the arrays at hand, whose native entry runs the next call."""
        with self._lock:
            variant = self._variant([array.shape for array in arrays])
            if variant.native:
                if variant.level == FIRST_LEVEL and variant is self.current:
                    link(variant, FINAL_LEVEL)  # the second call: this step is worth its code
                self._install(variant)
        return variant

    def _run(self, variant: Variant, arguments: Sequence[Any], arrays: Sequence[Array]) -> Any:
        self._check_variables(variant)
        if variant.native:
            return variant_calls.call(variant, arrays, self)
        lock = self._store.lock_address if variant.signature.locks and not _blocks(variant) else 0
        try:
            with python_entry.locked(lock), _memory_for(self.name):
                values = interpret(variant, arrays, self._store)
        except OpError as error:
            self.session.annotate(error)
            raise
        for index, fetched in enumerate(variant.extraction.fetches):
            if fetched.kind == "feed" and self._specs[fetched.index].type.dtype == "string":
                values[index] = np.asarray(arguments[fetched.index], dtype=object)
        if self.structure == "single":
            return values[0]
        return tuple(values) if self.structure == "tuple" else self.pack(values)

    def _check_variables(self, variant: Variant) -> None:
        """Raises: FailedPreconditionError for a variable that is read before it has a value."""
        extraction = variant.extraction
        for slot in variant.signature.slots:
            variable = extraction.variables[slot.name]
            if slot.read and not self._store.cell(variable, slot.type.dtype).initialized:
                raise uninitialized(variable, extraction.readers.get(slot.name, variable))

    # ---- variants -------------------------------------------------------------------------------
    def _variant(self, shapes: Sequence[tuple[int, ...]]) -> Variant:
        """The variant for feeds of ``shapes``, compiled if there is none."""
        reason = "" if self.variants else FIRST_RUN
        for position, variant in enumerate(self.variants):
            misfit = self._misfit(variant, shapes)
            if misfit is None:
                self.variants.insert(0, self.variants.pop(position))
                return variant
            reason = reason or misfit
        return self.compile(shapes, reason)

    def _misfit(self, variant: Variant, shapes: Sequence[tuple[int, ...]]) -> str | None:
        """In words, why a variant is not for feeds of ``shapes``; None where it is."""
        extraction = variant.extraction
        pairs: list[tuple[str, Type, tuple[int, ...]]] = [
            (tensor.name, feed.type, shape)
            for tensor, feed, shape in zip(
                self.feeds, variant.signature.feeds, shapes, strict=True
            )
        ]
        for name, variable in extraction.variables.items():
            shape = self._store.shape(variable)
            if shape is not None:
                type_ = extraction.function.globals[name].type
                pairs.append((f"variable {variable.name}", type_, shape))
        sizes: dict[str, int] = {}
        for _ in range(2):  # compound sizes are compared once all names are known
            for what, type_, shape in pairs:
                difference = _difference(type_, shape, sizes)
                if difference is not None:
                    return f"{what} {difference}"
        for a, b in variant.signature.assumptions:
            have, want = dims.evaluate(a, sizes), dims.evaluate(b, sizes)
            if have != want:
                return f"the size {a} = {have} is not {b} = {want}, as in the variant before"
        return None

    def compile(
        self,
        shapes: Sequence[tuple[int, ...] | None] | None,
        reason: str,
        level: Level = FIRST_LEVEL,
    ) -> Variant:
        """Compile the variant for feeds of ``shapes`` (None: not known yet)."""
        given = shapes if shapes is not None else [None] * len(self._keys)
        keys = [
            FeedKey(k.tensor, k.dtype, k.shape, shape)
            for k, shape in zip(self._keys, given, strict=True)
        ]
        with _no_collection(), _memory_for(self.name):
            nodes = self.nodes()
            self.session.check_placement(nodes)
            extraction = extract(
                Request(self.leaves, keys, self._store.shape, self.name, nodes)
            )
            job = Job(extraction, self._store, self.name, self.structure, level, nodes)
            variant = compile_variant(job)
        self.variants.insert(0, variant)
        self.session.compiled(self, variant, reason)
        self._dump(variant)
        return variant

    def _install(self, variant: Variant) -> None:
        """Let the step run a variant from now on, unless its session was closed."""
        self.current = variant
        if variant.entry_address and variant.level == FINAL_LEVEL and not self.session.closed:
            hand_over([v for v in self.variants if v.level == FINAL_LEVEL], variant)
            retarget(self.step, variant.table_address)

    def prepare(self) -> None:
        """Compile before the first call, where all ranks are known."""
        with self._lock:
            if self.variants or any(key.shape is None for key in self._keys):
                return
            variant = self.compile(None, "make_callable", FINAL_LEVEL)
            if variant.extraction.late:
                self.variants.remove(variant)  # the sizes at hand will tell more
            elif variant.native:
                self._install(variant)

    def close(self) -> None:
        """Send every further call through ``miss``, which says that the session is closed."""
        with self._lock:
            retarget(self.step)

    # ---- looking at it --------------------------------------------------------------------------
    def nodes(self) -> list[Any]:
        """The nodes that a run computes, in order."""
        return needed(self.leaves, set(self.feeds))

    @property
    def writes(self) -> bool:
        """True where a run changes variables."""
        return bool(self.variants) and self.variants[0].signature.locks

    def text(self, stage: str = "fused") -> str:
        """The text of a stage (graph, tensor, fused, loops, llvm, asm) of the variant that ran
        last.
        """
        with self._lock:
            return self._shown().text(stage)

    def dump(self, path: Any = None, **options: Any) -> str:
        """The variant that ran last as text, page or drawing; see ``runtime.show.dumps.dump``."""
        from stepforge.runtime.show import dumps

        with self._lock:
            return dumps.dump(self._subject(self._shown()), path, **options)

    def html(self) -> str:
        """What a notebook shows."""
        from stepforge.runtime.show import notebook

        with self._lock:
            return notebook.step_html(self._subject(self._shown()))

    def _shown(self) -> Variant:
        if not self.variants:
            self.compile(None, "text")
        return self.variants[0]

    def _subject(self, variant: Variant) -> Any:
        from stepforge.runtime.show import subject

        return subject.of_variant(self.name, variant, self.nodes())

    def _dump(self, variant: Variant) -> None:
        """Write every stage to the folder that STEPFORGE_DUMP names."""
        folder = os.environ.get("STEPFORGE_DUMP")
        if folder:
            from stepforge.runtime.show import dumps

            dumps.write_all(self._subject(variant), folder)


@contextlib.contextmanager
def _memory_for(name: str) -> Iterator[None]:
    """Raises: ResourceExhaustedError where NumPy or Python finds no memory."""
    try:
        yield
    except MemoryError as error:
        message = f"{name}: {str(error) or 'memory ran out'}"
        raise ResourceExhaustedError(None, None, message) from error


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's search for cycles: a compile makes none, but more and more to look through.

    It was a third of the time for graphs of 20 000 nodes. What is new is looked through behind it,
    where Python would often begin with all that there is.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.collect(0)
            gc.enable()


def _blocks(variant: Variant) -> bool:
    """True where a step runs Python functions, during which no lock is held: it is not atomic."""
    return any(op.defn.effect == "host" for op in variant.stages["tensor"].walk())


def _difference(type_: Type, shape: tuple[int, ...], sizes: dict[str, int]) -> str | None:
    """What keeps an array of ``shape`` from being a ``type_``; names that it binds are added."""
    if type_.shape is None:
        return None
    if len(shape) != type_.rank:
        return f"has rank {len(shape)}, not {type_.rank} as in the variant before"
    for axis, (want, have) in enumerate(zip(type_.shape, shape, strict=True)):
        name = dims.as_name(want)
        if name is not None and name not in sizes:
            sizes[name] = have
        elif dims.names(want) <= sizes.keys() and dims.evaluate(want, sizes) != have:
            value = "" if isinstance(want, int) else f" = {dims.evaluate(want, sizes)}"
            return f"has size {have} in axis {axis}, not {want}{value} as in the variant before"
    return None


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
