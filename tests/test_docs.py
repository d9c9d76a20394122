"""What the documents say of the repository is so: files, targets, stages, links, dependencies."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from stepforge.codegen import signature
from stepforge.ir.opdef import REGISTRY, lookup
from stepforge.passes.manager import name_of
from stepforge.passes.order import ORDER
from stepforge.runtime import backends
from stepforge.runtime.variant import stages

if sys.version_info >= (3, 11):
    import tomllib

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LAYERS = "stepforge|frontend|ir|passes|codegen|runtime|tests|examples|benchmarks|docs"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_targets_and_links_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(rf"`((?:{LAYERS})/[\w./*]*)`", text):
        assert list(ROOT.glob(path.rstrip("/"))), path
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make ([\w-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / link).exists(), link


def test_the_table_of_passes_names_all_of_them() -> None:
    named = re.findall(
        r"^\| (?:tensor|fusion|to loops|loops) \| (.*?) \|", ARCHITECTURE, re.MULTILINE
    )
    words = set(re.findall(r"\w+", " ".join(named)))
    passes = {name_of(step) for level in ORDER.values() for step in level}
    assert passes | {"bufferize", "lower", "plan"} == words - {"and", "again"}


def test_stages_and_back_ends_are_named() -> None:
    line = re.search(r"`step.text\(stage\)` prints a step as (.*?);", ARCHITECTURE, re.DOTALL)
    assert line is not None
    assert re.findall(r"`(\w+)`", line[1]) == list(stages())
    for name in backends.BACKENDS:
        assert name in ARCHITECTURE


def test_operations_of_the_loop_level_are_named() -> None:
    lookup("for")
    paragraph = re.search(r"^The loop level has (.*?)\n\n", ARCHITECTURE, re.DOTALL | re.MULTILINE)
    assert paragraph is not None
    words = set(re.findall(r"`(\w+)`", paragraph[1]))
    assert words == {name for name, op in REGISTRY.items() if op.level == "loop"}


def test_offsets_are_those_of_the_code() -> None:
    for name, offset in (
        ("table", signature.CONTEXT_TABLE),
        ("exception", signature.CONTEXT_EXCEPTION),
    ):
        assert f"| {offset} | ptr | {name} |" in ARCHITECTURE
    assert f"{signature.TABLE_POOL} the pool" in ARCHITECTURE
    assert f"{signature.TABLE_KERNEL} the kernel of another back end" in ARCHITECTURE
    assert f"{signature.FIRST_SLOT} and up the slots" in ARCHITECTURE


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no tomllib")
def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
    wanted = {("", each) for each in project["dependencies"]}
    wanted |= {(x, each) for x, group in project["optional-dependencies"].items() for each in group}
    for extra, requirement in wanted:
        name = re.split(r"[<>=]", requirement)[0]
        rows = [
            row for row in page.splitlines() if row.startswith(f"| `{extra}`" if extra else "|")
        ]
        assert any(name in row for row in rows), (extra, name)
    supported = [c for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert f">={supported[0].rpartition(' ')[2]}" == project["requires-python"]
