"""A step, or what a pass made of it, as text, as a page or as a drawing: to a file or as a string.

``STEPFORGE_DUMP=folder`` has every step of a program written there as it compiles, each stage in a
file of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from hashlib import sha256
from itertools import count
from pathlib import Path

from stepforge.ir.core import Function
from stepforge.ir.text import print_function
from stepforge.runtime.show import picture
from stepforge.runtime.show.dot import dot
from stepforge.runtime.show.page import page
from stepforge.runtime.show.picture import Picture
from stepforge.runtime.show.subject import Subject
from stepforge.runtime.show.svg import svg
from stepforge.runtime.variant import stages

ALL = "all"
# Each format with the stage that it shows unless another is named.
DEFAULT_STAGE = {"text": "fused", "html": ALL, "dot": "graph", "svg": "graph"}
SUFFIXES = {".html": "html", ".htm": "html", ".dot": "dot", ".gv": "dot", ".svg": "svg"}
DRAWINGS: dict[str, Callable[[Picture], str]] = {"dot": dot, "svg": svg}
LONGEST_NAME = 80  # characters of a step's name in those of files
_NOT_SAFE = re.compile(r"[^\w.-]+", re.ASCII)


def dump(
    subject: Subject,
    path: str | os.PathLike[str] | None = None,
    *,
    stage: str | None = None,
    format: str | None = None,
    before: str | None = None,
    after: str | None = None,
) -> str:
    """What is asked for as a string; with a ``path``, it is written there too.

    ``format`` is text, html, dot or svg, by default what the path's suffix says. ``stage`` is one
    of the step's, or "all" of them for text and html. ``before`` and ``after`` name a pass instead,
    ``fold`` or its second run, ``fold:2``. Raises: ValueError for what there is not.
    """
    chosen = format or (SUFFIXES.get(Path(path).suffix, "text") if path is not None else "text")
    if chosen not in DEFAULT_STAGE:
        raise ValueError(f"format must be one of {', '.join(DEFAULT_STAGE)}, not {chosen!r}")
    passed = [name for name in (before, after) if name is not None]
    if len(passed) + (stage is not None) > 1:
        raise ValueError("a dump is of a stage, or before a pass, or after one")
    if passed:
        change = subject.change(passed[0])
        text = _function(change.before if before is not None else change.after, chosen)
    else:
        text = _stage(subject, stage or _default(subject, chosen), chosen)
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _default(subject: Subject, format: str) -> str:
    wanted = DEFAULT_STAGE[format]
    return wanted if wanted in (ALL, *subject.stages) else "tensor"


def _function(function: Function, format: str) -> str:
    if format == "html":
        raise ValueError("html shows every pass: give it a stage, or none")
    if format == "text":
        return print_function(function)
    return DRAWINGS[format](picture.of_function(function))


def _stage(subject: Subject, stage: str, format: str) -> str:
    if stage != ALL and stage not in subject.stages and not subject.text(stage):
        raise ValueError(
            f"{subject.name} has no stage {stage!r}, only {', '.join((*subject.stages, ALL))}"
        )
    if format == "html":
        return page(subject, None if stage == ALL else [stage])
    if format == "text":
        if stage != ALL:
            return subject.text(stage)
        parts = [f"// {name}\n{subject.text(name).rstrip()}\n" for name in subject.stages]
        return "\n".join(parts)
    if stage == "graph":
        return DRAWINGS[format](picture.of_nodes(subject.name, subject.nodes))
    if stage not in subject.history.stages:
        can = ", ".join(name for name in ("graph", *subject.history.stages))
        raise ValueError(f"{format} draws one of {can}, not {stage}")
    return DRAWINGS[format](picture.of_function(subject.history.stages[stage]))


# ---- every step of a program --------------------------------------------------------------------


def write_all(subject: Subject, folder: str | os.PathLike[str]) -> list[Path]:
    """Write each stage of a step, and its page, to files that no other dump has; their paths.

    Threads and processes may write to one folder: whoever creates the first file of a number has
    it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    stem = Path(folder) / safe_name(subject.name)
    content = page(subject)
    for number in count():
        try:
            with open(f"{stem}_{number}.html", "x", encoding="utf-8") as file:
                file.write(content)
        except FileExistsError:
            continue
        break
    written = [Path(f"{stem}_{number}.html")]
    for stage, suffix in stages().items():
        text = subject.text(stage)
        if text:
            written.append(Path(f"{stem}_{number}.{stage}.{suffix}"))
            written[-1].write_text(text, encoding="utf-8")
    return written


def safe_name(name: str) -> str:
    """A name for a file on any system: short, of plain characters, and still the name's own."""
    plain = _NOT_SAFE.sub("_", name).strip(".")
    if plain == name and 0 < len(name) <= LONGEST_NAME:
        return name
    return f"{plain[:LONGEST_NAME]}-{sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"
