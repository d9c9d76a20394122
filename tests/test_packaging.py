"""What is built is what is meant: the mapped folders, the wheel, the source archive, the import.

Both archives are built by the installed setuptools from a copy of the repository, without network.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("ir", "frontend", "passes", "codegen", "runtime")
# What `import stepforge` must leave alone: each costs tens of milliseconds, or is optional.
LATE = ("cffi", "google", "llvmlite", "matplotlib", "ml_dtypes", "numba", "scipy")
NOT_COPIED = (".*_cache", ".git", ".venv*", "*.egg-info", "__pycache__", "build")
BUILD = """
import sys
from setuptools import build_meta
out = sys.argv[1]
build_meta.build_wheel(out)
build_meta.build_sdist(out)
"""


@dataclass(frozen=True)
class Archives:
    """The folder with both archives, and the names in them (without the source archive's top)."""

    wheel: Path
    in_wheel: frozenset[str]
    in_sdist: frozenset[str]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    pytest.importorskip("setuptools", "77")
    folder = tmp_path_factory.mktemp("packaging")
    out = folder / "out"
    out.mkdir()
    shutil.copytree(ROOT, folder / "copy", ignore=shutil.ignore_patterns(*NOT_COPIED))
    command = [sys.executable, "-W", "ignore", "-c", BUILD, str(out)]
    subprocess.run(command, cwd=folder / "copy", check=True, capture_output=True, timeout=120)
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        in_wheel = frozenset(opened.namelist())
    with tarfile.open(sdist) as opened_sdist:
        in_sdist = frozenset(name.partition("/")[2] for name in opened_sdist.getnames())
    return Archives(wheel, in_wheel, in_sdist)


def modules() -> list[str]:
    """Every Python file of the package, by its path in the repository."""
    folders = [ROOT / name for name in ("stepforge", *LAYERS)]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    return [path.relative_to(ROOT).as_posix() for path in files]


def installed(path: str) -> str:
    return path if path.startswith("stepforge/") else f"stepforge/{path}"


def test_the_wheel_holds_every_module_and_its_types(archives: Archives) -> None:
    wanted = {installed(path) for path in modules()}
    packages = {path.rpartition("/")[0] for path in wanted}
    wanted |= {f"{package}/py.typed" for package in packages}
    wanted |= {f"stepforge/frontend/graphdef/{name}" for name in ("graph.proto", "signatures.txt")}
    wanted |= {f"stepforge/runtime/show/page.{suffix}" for suffix in ("html", "css", "js")}
    assert wanted <= archives.in_wheel


def test_the_wheel_holds_nothing_else(archives: Archives) -> None:
    tops = {name.partition("/")[0] for name in archives.in_wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"stepforge"}
    assert any(name.endswith("licenses/LICENSE") for name in archives.in_wheel)


def test_the_source_archive_is_the_repository(archives: Archives) -> None:
    wanted = {
        ".ci/run",
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "benchmarks/bench.py",
        "docs/architecture.md",
        "examples/data/README.md",
        "examples/data/digits.npz",
        "examples/digits.py",
        "pyproject.toml",
        "tests/test_packaging.py",
        *modules(),
    }
    assert wanted <= archives.in_sdist


def run(code: str, path: Path) -> dict[str, object]:
    """The JSON object that ``code`` prints, with ``path`` before everything that is installed."""
    environment = {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_the_wheel_imports_without_the_repository(archives: Archives, tmp_path: Path) -> None:
    with zipfile.ZipFile(archives.wheel) as opened:
        opened.extractall(tmp_path)
    names = ", ".join(f"stepforge.{layer}" for layer in LAYERS)
    code = f"""
import json, {names}
print(json.dumps({{m.__name__: list(m.__path__)[0] for m in ({names},)}}))
"""
    found = run(code, tmp_path)
    assert found == {f"stepforge.{x}": str(tmp_path / "stepforge" / x) for x in LAYERS}


def test_import_loads_nothing_heavy() -> None:
    code = """
import json, sys
import stepforge
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    loaded = run(code, ROOT)
    assert "stepforge" in loaded
    assert not set(LATE) & set(loaded)
