"""Files that nobody should trust are loaded by a process of its own; see ``hostile_worker``.

A finding is whatever ends that process, takes too long, or raises what is no error for users.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fuzz.shared import Finding

SECONDS = 60.0  # that a file of a few kilobytes may take
TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class File:
    """A file; ``run`` runs what it holds too."""

    suffix: str
    data: bytes
    run: bool = False

    def text(self) -> str:
        """Python that loads it."""
        return (
            "from fuzz.hostile import File, check_file\n"
            f"check_file(File({self.suffix!r}, {self.data!r}, {self.run}))"
        )


# ---- checking ------------------------------------------------------------------------------------
class Worker:
    """The process; see ``hostile_worker``."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, file: File, seconds: float = SECONDS) -> dict[str, Any]:
        """What came of loading a file. Raises: Finding where the process ended or hangs."""
        process = self._started()
        assert process.stdin is not None
        data = base64.b64encode(file.data).decode()
        message = {"suffix": file.suffix, "data": data, "run": file.run}
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        line = process.stdout.readline() if ready else b""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        status = process.wait() if ready else None
        self.stop()
        if status is None:
            raise Finding(f"it takes more than {seconds} s\n\n{file.text()}")
        raise Finding(f"it ends the process, with status {status}\n\n{file.text()}")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fuzz.hostile_worker"], cwd=TESTS,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**os.environ, "STEPFORGE_CACHE": "off"},
            )
        return self._process

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@cache
def worker() -> Worker:
    """The process that all checks share, until it ends."""
    return Worker()


def check_file(file: File) -> dict[str, Any]:
    """Load a file. Raises: Finding."""
    answer = worker().ask(file)
    if not answer["expected"]:
        raise Finding(f"{answer['error']} is no error for users\n{answer['text']}\n{file.text()}")
    return answer
