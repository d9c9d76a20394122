"""The order of the passes: one table, and the one place where a pass is put among the others.

Between the levels stands ``lower``, which turns a function of tensors into one of loops; ``plan``
comes behind the last. Both give more than a function, so they are no passes of this table.
"""

from __future__ import annotations

from stepforge.passes.block_products import block_products
from stepforge.passes.block_rows import block_rows
from stepforge.passes.contract import contract
from stepforge.passes.cse import cse
from stepforge.passes.expand import expand
from stepforge.passes.fold import fold
from stepforge.passes.fuse import fuse
from stepforge.passes.fuse_products import fuse_products
from stepforge.passes.manager import Pass, name_of
from stepforge.passes.merge_loops import merge_loops
from stepforge.passes.parallelize import parallelize
from stepforge.passes.prune import prune
from stepforge.passes.recompute import recompute
from stepforge.passes.rules import RULES, SHIPPED
from stepforge.passes.simplify import simplify
from stepforge.passes.stream_stores import stream_stores

ORDER: dict[str, tuple[Pass, ...]] = {
    "tensor": (prune, fold, simplify, cse, expand, fold, simplify, cse, prune),
    "fusion": (recompute, fuse, fuse_products, prune),
    "loops": (merge_loops, contract, block_rows, parallelize, stream_stores, block_products),
}

_SHIPPED = dict(ORDER)


def as_shipped() -> bool:
    """True where no pass and no rule was added: the outcome follows from the function and our
    source alone.
    """
    return ORDER == _SHIPPED and len(RULES) == SHIPPED


def add_pass(step: Pass, level: str, *, after: str) -> None:
    """Run ``step`` behind the last pass of ``level`` that is called ``after``, from now on.

    Raises: ValueError where the level has no such pass.
    """
    passes = ORDER[level]
    places = [place for place, each in enumerate(passes, 1) if name_of(each) == after]
    if not places:
        names = ", ".join(dict.fromkeys(map(name_of, passes)))
        raise ValueError(f"no pass of level {level!r} is called {after!r}, only {names}")
    ORDER[level] = (*passes[: places[-1]], step, *passes[places[-1] :])
