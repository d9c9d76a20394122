"""What a pass changed: edits that rebuild the text, and names that stay."""

from __future__ import annotations

import random

import pytest

from stepforge.ir.core import Function
from stepforge.ir.parser import parse_function
from stepforge.ir.text import Listing
from stepforge.passes.cse import cse
from stepforge.passes.history import history
from stepforge.passes.prune import prune
from stepforge.runtime.show.changes import Naming, edits, hunks

TEXT = """
func @f(%x: f32[n], %y: f32[n]) -> f32[n] {
  %0 = exp(%y) : f32[n]
  %1 = add(%x, %y) : f32[n]
  %2 = add(%x, %y) : f32[n]
  %3 = mul(%1, %2) : f32[n]
  %out = exp(%3) : f32[n]
  return(%out)
}
"""


def rebuilt(before: list[str], after: list[str]) -> tuple[list[str], list[str]]:
    """Both sides again, from their edits."""
    found = edits(before, after)
    old = [before[e.line] if e.sign == "-" else after[e.line] for e in found if e.sign != "+"]
    return old, [after[e.line] for e in found if e.sign != "-"]


@pytest.mark.parametrize("seed", range(20))
def test_edits_rebuild_both_sides(seed: int) -> None:
    rng = random.Random(seed)
    before = [f"{rng.randrange(30)}" for _ in range(rng.randrange(60))]
    after = [line for line in before if rng.random() > 0.3]
    for _ in range(rng.randrange(20)):
        after.insert(rng.randrange(len(after) + 1), f"{rng.randrange(60)}")
    assert rebuilt(before, after) == (before, after)


def test_edits_are_few() -> None:
    before = [f"line {i}" for i in range(1000)]
    after = [*before[:500], "new", *before[501:]]
    assert [e for e in edits(before, after) if e.sign != " "] == [("-", 500), ("+", 500)]
    parts = list(hunks(edits(before, after)))
    assert [part if isinstance(part, int) else len(part) for part in parts] == [498, 6, 497]


def changed(before: Function, after: Function) -> list[str]:
    names = Naming(before).follow(before, after)
    old, new = (Listing(f, names=n).lines for f, n in zip((before, after), names, strict=True))
    return [
        f"{e.sign} {(old if e.sign == '-' else new)[e.line].strip()}"
        for e in edits(old, new)
        if e.sign != " "
    ]


def test_a_pass_shows_what_it_did_and_no_more() -> None:
    function = parse_function(TEXT)
    assert changed(function, prune(function)) == ["- %0 = exp(%y) : f32[n]"]
    assert changed(function, cse(function)) == [
        "- %2 = add(%x, %y) : f32[n]",
        "- %3 = mul(%1, %2) : f32[n]",
        "+ %3 = mul(%1, %1) : f32[n]",
    ]


def test_names_are_unique_through_all_passes() -> None:
    naming, last = Naming(parse_function(TEXT)), None
    function = parse_function(TEXT)
    naming = Naming(function)
    for change in history(function).changes:
        if change.name == "lower":
            naming = Naming(change.after)
            continue
        before, after = naming.follow(change.before, change.after)
        for names in (before, after):
            assert len(set(names.values())) == len(names)
        if last is not None:
            assert before == last
        last = None if change.name == "prune" and change.level == "fusion" else after
