"""``stepforge cache``: the objects of compiled steps that are kept on disk."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepforge.cli_files import CommandError
from stepforge.cli_parsers import command_parser
from stepforge.codegen.disk_cache import DiskCache, Entry, disk_cache

_MORE = """\
  ls       what there is: sizes, when it was used last, the total
  clear    remove everything
  verify   read everything, and remove what is damaged or what others could have written;
           the exit status is 1 where there was such a file

examples:
  stepforge cache ls
  stepforge cache verify --dir ~/.cache/stepforge
  STEPFORGE_CACHE=/tmp/steps stepforge cache clear
"""
_KEY = 16  # characters of a key that are shown
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def add_commands(commands: Any) -> None:
    """Add ``cache`` to the commands."""
    parser = command_parser(commands, "cache", "look after the compiled steps on disk", _MORE)
    parser.add_argument("action", choices=tuple(_ACTIONS), help="what to do; see below")
    parser.add_argument("--dir", metavar="FOLDER", help="another folder than the one in use")
    parser.add_argument("--json", action="store_true", help="list as JSON")
    parser.set_defaults(command=cache_command)


def cache_command(options: argparse.Namespace) -> int:
    """Do what is asked; 1 where something was damaged."""
    return _ACTIONS[options.action](_cache(options.dir), options)


def _cache(folder: str | None) -> DiskCache:
    if folder is None:
        cache = disk_cache()
        if cache is None:
            raise CommandError("no cache is in use: STEPFORGE_CACHE is off, or its folder cannot"
                               " be trusted")
        return cache
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise CommandError(f"there is no folder {path}")
    return DiskCache(path)


def _list(cache: DiskCache, options: argparse.Namespace) -> int:
    entries = cache.entries()
    total = sum(entry.size for entry in entries)
    if options.json:
        rows = [
            {"key": e.key, "kind": _kind(cache, e), "bytes": e.size, "used": e.used}
            for e in entries
        ]
        print(json.dumps({"folder": str(cache.folder), "bytes": total, "limit": cache.limit,
                          "entries": rows}, indent=2))
        return 0
    for entry in entries:
        print(f"{_line(entry):<{_LINE}}  {_kind(cache, entry)}")
    print(f"{_counted(entries)}, {_bytes(total)} of at most {_bytes(cache.limit)}, in"
          f" {cache.folder}")
    return 0


def _clear(cache: DiskCache, options: argparse.Namespace) -> int:
    entries = cache.entries()
    removed = cache.clear()
    total = sum(entry.size for entry in entries)
    print(f"removed {removed} files, {_bytes(total)}, from {cache.folder}")
    return 0


def _verify(cache: DiskCache, options: argparse.Namespace) -> int:
    entries = cache.entries()
    damaged = cache.verify()
    for entry in damaged:
        print(f"removed {_line(entry)}: damaged, or others could write to it")
    print(f"{_counted(entries)} in {cache.folder}, {len(damaged)} of them damaged")
    return int(bool(damaged))


_STEP = b"{"  # recipes are JSON; no object begins so
_LINE = 38  # characters of a file's line up to its age
_ACTIONS = {"ls": _list, "clear": _clear, "verify": _verify}


def _kind(cache: DiskCache, entry: Entry) -> str:
    """What a file is: "code" of a module, or what a compile found out about a "step"."""
    return "step" if cache.begins_with(entry, _STEP) else "code"


def _line(entry: Entry) -> str:
    age = max(0.0, time.time() - entry.used)
    size, unit = next(((s, u) for s, u in _UNITS if age >= s), (1, "s"))
    return f"{entry.key[:_KEY]}  {_bytes(entry.size):>9}  {age / size:.0f} {unit} ago"


def _counted(entries: Sequence[Entry]) -> str:
    return f"{len(entries)} object{'s' if len(entries) != 1 else ''}"


def _bytes(count: int) -> str:
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
