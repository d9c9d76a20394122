"""Compiled objects on disk: found again, never trusted blindly, safe for many processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepforge.codegen import disk_cache
from stepforge.codegen.disk_cache import DiskCache, key_of

PROGRAM = """
import json
import numpy as np
import stepforge as tf
from stepforge.codegen.disk_cache import disk_cache

x = tf.placeholder(tf.float64, [None], name="x")
y = tf.reduce_sum(tf.exp(x) * {factor} + x)
with tf.Session() as sess:
    values = [sess.run(y, {{x: np.arange(3.0)}}) for _ in range(3)]
    values.append(sess.make_callable(y, [x])(np.arange(3.0)))
    stored = [entry["stored"] for entry in sess.cache_info()["history"]]
cache = disk_cache()
disk = [entry["disk"] for entry in sess.cache_info()["history"]]
print(json.dumps([values, stored, cache and [cache.hits, cache.misses], disk]))
"""


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    disk_cache._opened.cache_clear()
    yield
    disk_cache._opened.cache_clear()


def run(folder: object, factor: float = 2.0) -> Any:
    """What the program prints, in a process that keeps objects in ``folder``."""
    environment = {**os.environ, "STEPFORGE_CACHE": str(folder)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(factor=factor)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---- steps --------------------------------------------------------------------------------------
def test_the_next_process_compiles_nothing(tmp_path: Path) -> None:
    values, stored, _, disk = run(tmp_path)
    assert stored == [False]
    assert disk == ["nothing: it is new here"]
    again, found, warm, all_of_it = run(tmp_path)
    assert again == values
    assert found == [True]
    assert all_of_it == ["all"]
    assert warm is not None
    assert warm[1] == 0
    assert warm[0] > 0
    other = run(tmp_path, factor=3.0)
    assert other[0] != values
    assert other[1] == [False]


def test_off(tmp_path: Path) -> None:
    assert run("off")[1:] == [[False], None, ["nothing: the disk cache is off"]]


def test_a_damaged_object_is_compiled_again(tmp_path: Path) -> None:
    values = run(tmp_path)[0]
    files = sorted(tmp_path.iterdir())
    for number, path in enumerate(files):
        content = bytearray(path.read_bytes())
        if number % 3 == 0:
            content[len(content) // 2] ^= 1
        path.write_bytes(content[: len(content) // 2] if number % 3 == 1 else content)
    again = run(tmp_path)
    assert again[0] == values
    assert again[2][1] > 0
    assert run(tmp_path)[2][1] == 0


# ---- the folder ---------------------------------------------------------------------------------
def test_what_is_put_is_got(cache: DiskCache) -> None:
    assert cache.get("a") is None
    for content in (b"", b"x" * 100_000):
        cache.put("a", content)
        assert cache.get("a") == content
        assert "a" in cache
    assert (cache.hits, cache.misses) == (2, 1)
    assert [(e.key, e.size > 100_000) for e in cache.entries()] == [("a", True)]
    assert cache.clear() == 1
    assert "a" not in cache


@pytest.mark.parametrize("content", [b"", b"stepforge", b"\0" * 200, b"stepforge object 1\n" * 9])
def test_foreign_files_are_replaced(cache: DiskCache, content: bytes) -> None:
    path = cache.folder / "a.object"
    path.write_bytes(content)
    assert cache.get("a") is None
    assert not path.exists()
    cache.put("a", b"right")
    assert cache.get("a") == b"right"


def test_verify_removes_what_is_damaged(cache: DiskCache) -> None:
    cache.put("good", b"1")
    cache.put("bad", b"2")
    path = cache.folder / "bad.object"
    path.write_bytes(path.read_bytes() + b"!")
    assert [entry.key for entry in cache.verify()] == ["bad"]
    assert [entry.key for entry in cache.entries()] == ["good"]


def test_what_was_not_used_for_longest_goes_first(cache: DiskCache) -> None:
    for number in range(5):
        cache.put(str(number), b"x" * 1000)
        os.utime(cache.folder / f"{number}.object", (1000 + number, 1000 + number))
    assert cache.get("0") is not None  # which makes it the newest
    cache.limit = 3200
    cache.evict()
    assert sorted(entry.key for entry in cache.entries()) == ["0", "3", "4"]


def test_abandoned_files_are_removed(cache: DiskCache) -> None:
    old, new = cache.folder / "x.partial", cache.folder / "y.partial"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    cache.evict()
    assert not old.exists()
    assert new.exists()


def test_a_folder_that_is_full_or_gone_is_no_error(cache: DiskCache) -> None:
    cache.folder.rmdir()
    cache.put("a", b"1")
    assert cache.get("a") is None
    assert cache.entries() == []
    assert cache.clear() == 0


def test_keys_tell_lists_apart() -> None:
    lists = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], []]
    assert len({key_of(parts) for parts in lists}) == len(lists)


# ---- whom it belongs to -------------------------------------------------------------------------
@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users have no numbers here")
class TestOwner:
    def test_a_folder_is_made_for_the_user_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STEPFORGE_CACHE", str(tmp_path / "new" / "deep"))
        opened = disk_cache.disk_cache()
        assert opened is not None
        assert opened.folder.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
    def test_others_may_not_write(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
    ) -> None:
        tmp_path.chmod(mode)
        monkeypatch.setenv("STEPFORGE_CACHE", str(tmp_path))
        with pytest.warns(RuntimeWarning, match="others may write to it"):
            assert disk_cache.disk_cache() is None

    def test_a_link_or_file_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "real")
        (tmp_path / "file").write_bytes(b"")
        for name in ("link", "file"):
            monkeypatch.setenv("STEPFORGE_CACHE", str(tmp_path / name))
            with pytest.warns(RuntimeWarning, match="are not kept"):
                assert disk_cache.disk_cache() is None

    def test_another_users_file_is_not_read(
        self, cache: DiskCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache.put("a", b"1")
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert cache.get("a") is None

    def test_a_link_in_place_of_a_file_is_not_followed(
        self, cache: DiskCache, tmp_path: Path
    ) -> None:
        cache.put("a", b"1")
        (cache.folder / "b.object").symlink_to(cache.folder / "a.object")
        assert cache.get("b") is None


# ---- many processes -----------------------------------------------------------------------------
WRITER = """
import random, sys
from pathlib import Path
from stepforge.codegen.disk_cache import DiskCache

cache, rng = DiskCache(Path(sys.argv[1]), limit=200_000), random.Random(sys.argv[2])
print("ready", flush=True)
while True:
    number = rng.randrange(40)
    content = bytes([number]) * (number * 500 + 1)
    if rng.random() < 0.5:
        cache.put(str(number), content)
    found = cache.get(str(number))
    assert found is None or found == content, number
    if rng.random() < 0.02:
        cache.evict()
"""


def test_processes_that_die_at_any_time_leave_no_wrong_object(tmp_path: Path) -> None:
    def start(seed: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(seed)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    running = [start(seed) for seed in range(8)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    time.sleep(1.0)
    for process in running:
        process.send_signal(signal.SIGKILL)
    for process in running:
        _, errors = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL, errors  # none had failed before
    cache = DiskCache(tmp_path)
    assert cache.entries()
    assert not cache.verify()
    for entry in cache.entries():
        number = int(entry.key)
        assert cache.get(entry.key) == bytes([number]) * (number * 500 + 1)
