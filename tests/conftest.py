"""What all tests share: golden files, rewritten by ``pytest --update-golden``; graphs of their own;
modules of steps that were compiled ahead of time.
"""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["STEPFORGE_CACHE"] = "off"  # what is tested is compiled; fixtures import stepforge later
GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files instead of comparing"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)`` compares ``text`` with the file ``tests/golden/name``."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"there is no {path}; run pytest --update-golden and read what it writes")
        want = path.read_text(encoding="utf-8")
        if text != want:
            lines = difflib.unified_diff(
                want.splitlines(), text.splitlines(), name, "now", lineterm=""
            )
            pytest.fail("\n".join(lines), pytrace=False)

    return compare


@pytest.fixture
def model(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The working directory, in which ``model.py`` is the test file's ``MODEL``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(request.module.MODEL)
    return tmp_path


@pytest.fixture
def own_graph() -> Iterator[None]:
    """A default graph that nobody else adds to."""
    import stepforge as tf

    with tf.Graph().as_default():
        yield


@pytest.fixture
def module(tmp_path: Path) -> Callable[..., Any]:
    """Writes the Python module of a library and runs it."""
    from ahead_testing import python_module

    return functools.partial(python_module, tmp_path)
