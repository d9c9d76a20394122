"""``stepforge cache``: what it lists, removes, and finds damaged."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from stepforge.cli import main
from stepforge.codegen.disk_cache import DiskCache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cache = DiskCache(tmp_path)
    cache.put("a" * 64, b"x" * 5000)
    cache.put("b" * 64, b'{"x": ' + b"1" * 93 + b"}")
    hours = time.time() - 3 * 3600
    os.utime(tmp_path / f"{'a' * 64}.object", (hours, hours))
    return tmp_path


def run(folder: Path, *words: str) -> int:
    return main(["cache", *words, "--dir", str(folder)])


def test_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "ls") == 0
    newest, oldest, total = capsys.readouterr().out.splitlines()
    assert newest.startswith("b" * 16 + "      151 B  ")
    assert newest.endswith(" ago    step")
    assert oldest == "a" * 16 + "    4.9 KiB  3 h ago    code"
    assert total == f"2 objects, 5.1 KiB of at most 256.0 MiB, in {folder}"
    assert run(folder, "ls", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["key"][0] for entry in found["entries"]] == ["b", "a"]
    assert [entry["kind"] for entry in found["entries"]] == ["step", "code"]
    assert found["bytes"] == sum(entry["bytes"] for entry in found["entries"])


def test_clear(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "clear") == 0
    assert capsys.readouterr().out == f"removed 2 files, 5.1 KiB, from {folder}\n"
    assert not list(folder.iterdir())


def test_verify_says_by_its_status_whether_something_was_damaged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "verify") == 0
    assert capsys.readouterr().out == f"2 objects in {folder}, 0 of them damaged\n"
    (folder / f"{'b' * 64}.object").write_bytes(b"stepforge object 1\nnonsense")
    assert run(folder, "verify") == 1
    printed = capsys.readouterr().out
    assert printed.startswith("removed " + "b" * 16)
    assert "2 objects" in printed
    assert "1 of them damaged" in printed
    assert run(folder, "verify") == 0


def test_where_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "gone", "ls") == 1
    assert "there is no folder" in capsys.readouterr().err


def test_the_folder_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPFORGE_CACHE", str(tmp_path / "mine"))
    assert main(["cache", "ls"]) == 0
    assert f"0 objects, 0 B of at most 256.0 MiB, in {tmp_path / 'mine'}" in capsys.readouterr().out
    monkeypatch.setenv("STEPFORGE_CACHE", "off")
    assert main(["cache", "ls"]) == 1
    assert "no cache is in use" in capsys.readouterr().err
