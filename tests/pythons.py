"""``make test-pythons``: the tests on each Python that this machine has, and a table of results.

Interpreters are those on the path and those of pyenv. Each gets an environment ``.venv-3.X``. The
proof of CPython's layout, and steps through the plain Python entry, have columns of their own: they
are what a new version of Python may break.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
FORCED = ["tests/test_step.py", "tests/test_state_order.py", "tests/test_session_errors.py"]
FORCED += ["-k", "python"]  # what these run with either entry, with the plain one
COLUMNS: Mapping[str, tuple[Sequence[str], Mapping[str, str]]] = {
    "layout": (["tests/test_layout.py"], {}),
    "python entry": (FORCED, {"STEPFORGE_ENTRY": "python"}),
    "tests": (["-m", "not slow"], {}),
}


def interpreter(version: str) -> str | None:
    """A Python of ``version`` that runs: the newest of pyenv, or else one on the path."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    releases = sorted(
        home.glob(f"{version}.*"), key=lambda p: [*map(int, re.findall(r"\d+", p.name))]
    )
    candidates = [*(str(p / "bin" / "python") for p in reversed(releases))]
    candidates += filter(None, [shutil.which(f"python{version}")])
    ask = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        asked = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, check=False)
        if asked.stdout.strip() == version:
            return candidate
    return None


def environment(version: str, python: str) -> Path:
    """The Python of an environment with what the tests need."""
    folder = f".venv-{version}"
    command = ["make", f"PYTHON={python}", f"VENV={folder}", f"{folder}/.with-test"]
    subprocess.run(command, cwd=ROOT, check=True)
    return ROOT / folder / "bin" / "python"


def outcome(
    python: Path, arguments: Sequence[str], variables: Mapping[str, str]
) -> tuple[str, bool]:
    """The last line that pytest prints, and whether all is well."""
    command = [str(python), "-m", "pytest", "-q", *arguments]
    started = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **variables},
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        print(done.stdout, flush=True)
    counts = re.findall(r"\d+ (?:passed|failed|skipped|errors?)", done.stdout.splitlines()[-1])
    text = ", ".join(counts) or "no tests ran"
    return f"{text} ({time.monotonic() - started:.0f} s)", done.returncode == 0


def main(wanted: Sequence[str]) -> int:
    """Run everything; 0 where all is well."""
    rows, fine = [["Python", *COLUMNS]], True
    for version in wanted or VERSIONS:
        python = interpreter(version)
        if python is None:
            rows.append([version, "not on this machine", *[""] * (len(COLUMNS) - 1)])
            continue
        local = environment(version, python)
        row = [version]
        for title, column in COLUMNS.items():
            text, good = outcome(local, *column)
            print(f"{version}, {title}: {text}", flush=True)
            row.append(text)
            fine = fine and good
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
