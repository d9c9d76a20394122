"""Files that nobody should trust, led by coverage: ``python -m tests.fuzz.covering``.

atheris changes what made new lines run, so it finds its way into formats that chance does not. It
has no wheels for every Python, and no end but ``-max_total_time=SECONDS``. The arguments are
libFuzzer's. Interesting files stay in ``build/corpus``; what is wrong is printed, and the file that
shows it is kept as ``build/crash-...``.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))  # as pytest does
CORPUS = TESTS.parent / "build" / "corpus"
SUFFIXES = (".pb", ".sf", ".npy", ".npz", ".pbtxt")  # by the first byte


def main() -> None:
    """Fuzz until something is found, or the time is over."""
    import atheris

    with atheris.instrument_imports(include=["stepforge"], enable_loader_override=False):
        from fuzz.hostile_files import good
        from fuzz.hostile_worker import answer

    CORPUS.mkdir(parents=True, exist_ok=True)
    for number, suffix in enumerate(SUFFIXES):
        for index, data in enumerate(good(suffix)):
            (CORPUS / f"good-{number}-{index}").write_bytes(bytes([number]) + data)
    folder = Path(tempfile.mkdtemp())

    def check(data: bytes) -> None:
        if not data:
            return
        text = base64.b64encode(data[1:]).decode()
        message = {"suffix": SUFFIXES[data[0] % len(SUFFIXES)], "data": text, "run": False}
        found = answer(message, folder)
        if not found["expected"]:
            raise AssertionError(found["text"])

    options = ["-rss_limit_mb=2500", "-timeout=20", "-max_len=4096"]
    options.append(f"-artifact_prefix={CORPUS.parent}/")
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:], str(CORPUS)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
