"""CONTRIBUTING.md is true: each of its sections runs in a process of its own, as it stands.

A block whose first line is a comment with a file name is that file; ``golden/...`` is beside the
tests. Other Python blocks are programs that find these files; other blocks are commands.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "CONTRIBUTING.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./]+)\n")


class Block(NamedTuple):
    """A block of a section: its language, and the file that it is, if any."""

    language: str
    file: str
    text: str


def sections() -> dict[str, list[Block]]:
    """The blocks of each section of the page that has some."""
    found: dict[str, list[Block]] = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        for language, text in BLOCK.findall(body):
            named = FILE.match(text)
            file, content = (named[1], text[named.end() :]) if named else ("", text)
            found.setdefault(title, []).append(Block(language, file, content))
    return found


def run(folder: Path, *command: str) -> str:
    """What a command prints, in a folder whose files can be imported. It must succeed."""
    known = {n: v for n, v in os.environ.items() if not n.startswith("STEPFORGE_")}
    done = subprocess.run(
        command, cwd=folder, env={**known, "PYTHONPATH": str(folder)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the tests that the page names, and no golden files."""
    for source in TESTS.glob("*.py"):
        target = tmp_path / "tests" / source.name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(source, target)
    return tmp_path


@pytest.mark.parametrize("title", sections())
def test_a_section_runs_as_it_stands(title: str, folder: Path) -> None:
    blocks = sections()[title]
    for block in blocks:
        if block.file:
            path = folder / ("tests" if block.file.startswith("golden/") else "") / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
    for block in blocks:
        if block.language and not block.file:
            run(folder, sys.executable, "-c", block.text)
        elif not block.file:
            program, *arguments = shlex.split(block.text)
            assert program == "pytest"
            printed = run(folder, sys.executable, "-m", "pytest", "-q", *arguments)
            assert re.search(r"^\d+ passed", printed, re.MULTILINE), printed
            assert "failed" not in printed


def test_the_page_has_an_example_of_each_kind() -> None:
    assert list(sections()) == ["An operation", "A rule", "A pass", "A back end"]
    for blocks in sections().values():
        assert any(b.file.endswith(".py") for b in blocks)
        assert any(b.language == "python" and not b.file for b in blocks)
