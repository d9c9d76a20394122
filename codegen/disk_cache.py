"""Compiled objects on disk, so that the next process need not compile them again.

A folder of files, each named by the hash of everything that its content follows from. Any number of
processes share it: a file appears at once, by renaming, and a reader that finds it damaged takes it
for absent and removes it. Code from here is run, so the folder must be the user's own and nobody
else's to write. ``STEPFORGE_CACHE`` names another folder, or is ``off``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import field
from functools import cache
from pathlib import Path

from stepforge.ir.records import record

LIMIT = 256 << 20  # bytes that a folder may hold; what was not used for longest goes first
EVICT_EVERY = 32  # files that a process writes between two looks at the size of the folder
ABANDONED = 3600  # seconds after which a file that a dead process began is removed
_MAGIC = b"stepforge object 1\n"
_DIGEST = 32
_SUFFIX, _PARTIAL = ".object", ".partial"


@record(frozen=True)
class Entry:
    """A file of the cache. ``used`` is when, in seconds of the epoch."""

    path: Path
    size: int
    used: float

    @property
    def key(self) -> str:
        """What the file is called by."""
        return self.path.name.removesuffix(_SUFFIX)


@record
class DiskCache:
    """One folder; see the module's text. ``hits`` and ``misses`` count what this process asked."""

    folder: Path
    limit: int = LIMIT
    hits: int = 0
    misses: int = 0
    _written: int = field(default=0, repr=False)

    def get(self, key: str) -> bytes | None:
        """The content stored under ``key``; None where there is none that can be trusted."""
        content = self._read(self._path(key))
        if content is None:
            self.misses += 1
        else:
            self.hits += 1
        return content

    def __contains__(self, key: str) -> bool:
        """True where there is a file, be it sound or not."""
        return self._path(key).is_file()

    def put(self, key: str, content: bytes) -> None:
        """Store ``content``, where the disk lets us: a full or read-only one is no error."""
        import tempfile

        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(_PARTIAL, dir=self.folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_MAGIC + hashlib.sha256(content).digest() + content)
                os.replace(name, self._path(key))
            except OSError:
                os.unlink(name)
                raise
            if self._written % EVICT_EVERY == 0:
                self.evict()
            self._written += 1

    def entries(self) -> list[Entry]:
        """Every file, the one that was used last first."""
        return sorted(self._files(_SUFFIX), key=lambda entry: entry.used, reverse=True)

    def begins_with(self, entry: Entry, start: bytes) -> bool:
        """Whether a content begins so, be it sound or not."""
        with contextlib.suppress(OSError), open(entry.path, "rb") as file:
            file.seek(len(_MAGIC) + _DIGEST)
            return file.read(len(start)) == start
        return False

    def evict(self) -> None:
        """Remove what was not used for longest until the folder is within its limit."""
        total = 0
        for entry in self.entries():
            total += entry.size
            if total > self.limit:
                _remove(entry.path)
        for entry in self._files(_PARTIAL):
            if entry.used < time.time() - ABANDONED:
                _remove(entry.path)

    def clear(self) -> int:
        """Remove everything; the number of files."""
        entries = [*self.entries(), *self._files(_PARTIAL)]
        for entry in entries:
            _remove(entry.path)
        return len(entries)

    def verify(self) -> list[Entry]:
        """Remove what is damaged or not ours, and tell what that was."""
        return [entry for entry in self.entries() if self._read(entry.path) is None]

    # ---- files ----------------------------------------------------------------------------------
    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _read(self, path: Path) -> bytes | None:
        try:
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            return None
        with os.fdopen(handle, "rb") as file:
            whole = file.read() if _is_own(os.fstat(handle)) else b""
        start = len(_MAGIC) + _DIGEST
        content = whole[start:]
        digest = hashlib.sha256(content).digest()
        if len(whole) < start or whole[:start] != _MAGIC + digest:
            _remove(path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # it was used now
        return content

    def _files(self, suffix: str) -> Iterator[Entry]:
        with contextlib.suppress(OSError), os.scandir(self.folder) as found:
            for item in found:
                with contextlib.suppress(OSError):
                    if item.name.endswith(suffix):
                        status = item.stat(follow_symlinks=False)
                        yield Entry(Path(item.path), status.st_size, status.st_mtime)


def key_of(parts: Iterable[str]) -> str:
    """The name of what follows from ``parts``."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))  # no two lists of parts run together
        digest.update(data)
    return digest.hexdigest()


def disk_cache() -> DiskCache | None:
    """The cache of this process; None where it is off, or its folder cannot be trusted."""
    return _opened(os.environ.get("STEPFORGE_CACHE", ""))


@cache
def _opened(setting: str) -> DiskCache | None:
    if setting.lower() in ("off", "0"):
        return None
    folder = Path(setting) if setting else _default_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        problem = _problem(folder)
    except OSError as error:
        problem = str(error)
    if problem:
        warnings.warn(
            f"compiled steps are not kept in {folder}: {problem}."
            " STEPFORGE_CACHE names another folder, or is 'off'.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return DiskCache(folder)


def _default_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_path("stepforge", appauthor=False))


def _problem(folder: Path) -> str:
    """Why code from ``folder`` must not be run; nothing where it may."""
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a folder"
    if not _is_own(status):
        return "it belongs to another user, or others may write to it"
    return "" if os.access(folder, os.W_OK) else "it cannot be written to"


def _is_own(status: os.stat_result) -> bool:
    """True for what this user alone may write; where users have no numbers the system sees to it.
    """
    if not hasattr(os, "geteuid"):
        return True
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid == os.geteuid() and not shared


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
