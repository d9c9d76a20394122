"""The files that a library compiled ahead of time is delivered in: objects, archives, shared
libraries, headers, Python modules, wheels.

The suffix of a file says what it is. On x86-64 Linux all of them are written here; shared libraries
of other systems need a linker (``ahead_link``).
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from stepforge.codegen import archive, elf_shared, header
from stepforge.codegen.exports import ExportedStep, Held, Parameter, Role
from stepforge.codegen.target import Target
from stepforge.ir.types import NUMERIC
from stepforge.runtime import ahead_link, ahead_module
from stepforge.runtime.ahead import Compiled

VERSION = "1.0"  # of a wheel
_EXPORTED = re.compile(r"^define (?!internal)[^@]*@(\w+)\(", re.MULTILINE)
_SHARED = {"linux": ".so", "darwin": ".dylib", "macos": ".dylib", "windows": ".dll"}


def write(compiled: Compiled, path: str | Path) -> list[Path]:
    """Write ``compiled`` into the file ``path`` and those that belong to it; all that was written.

    Raises: ValueError for a suffix that means nothing; RuntimeError where a linker is needed and
    there is none, or it fails.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise ValueError(f"{path.name}: a file ends in one of {', '.join(WRITERS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    written = WRITERS[path.suffix](compiled, path)
    if path.suffix not in (".h", ".whl") and _has_file(compiled):
        image = path.with_suffix(".state")
        image.write_bytes(compiled.image)
        written.append(image)
    return written


def _has_file(compiled: Compiled) -> bool:
    return compiled.library.has_state and compiled.library.image is None


def c_header(compiled: Compiled) -> str:
    """The text of the C header."""
    return header.c_header(compiled.library, compiled.parallel)


def _object(compiled: Compiled, path: Path) -> list[Path]:
    path.write_bytes(compiled.object)
    return [path]


def _archive(compiled: Compiled, path: Path) -> list[Path]:
    before = "_" if shared_suffix(compiled.target) == ".dylib" else ""  # as Mach-O has names of C
    names = [before + name for name in _EXPORTED.findall(compiled.text)]
    path.write_bytes(archive.static_library("steps.o", compiled.object, names))
    return [path]


def _header(compiled: Compiled, path: Path) -> list[Path]:
    path.write_text(c_header(compiled), encoding="utf-8")
    return [path]


def _shared(compiled: Compiled, path: Path) -> list[Path]:
    wanted = shared_suffix(compiled.target)
    if path.suffix != wanted:
        raise ValueError(f"{path.name}: shared libraries of {compiled.target.triple} are {wanted}")
    if _links_here(compiled.target):
        path.unlink(missing_ok=True)  # a program that has it loaded keeps the file that it has
        path.write_bytes(elf_shared.shared_library(compiled.object, path.name))
        path.chmod(0o755)
    else:
        ahead_link.link(compiled.object, compiled.target, path)
    return [path]


def shared_suffix(target: Target) -> str:
    """How shared libraries of a target's system end."""
    return next((s for system, s in _SHARED.items() if system in target.triple), ".so")


def _links_here(target: Target) -> bool:
    return target.triple.startswith("x86_64") and "linux" in target.triple


# ---- Python -------------------------------------------------------------------------------------


def python_module(compiled: Compiled, shared: str, image: str = "") -> str:
    """The text of a Python module that loads the file ``shared`` beside it."""
    library, top = compiled.library, inspect.getsource(ahead_module)
    declared = header.declarations(library, compiled.parallel)
    where = "Path(__file__).parent"
    lines = [
        "",
        "",
        f'_DECLARATIONS = """\n{declared}"""',
        f"library = Library(\n    {library.name!r}, {where} / {shared!r}, _DECLARATIONS,",
        f"    {_listed([_variable(h) for h in library.held if library.block])},",
        f"    {f'{where} / {image!r}' if image else None},",
        ")",
    ]
    lines += [_step(step) for step in library.steps]
    return top + "\n".join(lines) + "\n"


def _step(step: ExportedStep) -> str:
    roles: tuple[Role, ...] = ("feed", "held", "result")
    groups = [
        _listed([_argument(step, p) for p in step.of(role)])
        for role in roles
    ]
    state = bool(step.of("state"))
    return (
        f"{step.name} = Step(\n    library, {step.name!r},\n    {groups[0]},\n"
        f"    {step.sizes!r},\n    {groups[1]},\n    {groups[2]},\n    state={state},\n)"
    )


def _listed(items: list[str]) -> str:
    return f"[{', '.join(items)}]"


def _argument(step: ExportedStep, parameter: Parameter) -> str:
    shape = tuple(n if isinstance(n, int) else str(n) for n in step.shape(parameter.type))
    flags = (parameter.by_value, parameter.role == "held" and parameter.writable)
    dtype = _numpy_name(parameter.type.dtype)
    more = f", {parameter.sized_by!r}" if parameter.sized_by else ""
    return f"Argument({parameter.name!r}, {dtype!r}, {shape!r}, {flags[0]}, {flags[1]}{more})"


def _variable(held: Held) -> str:
    return f"Argument({held.label!r}, {_numpy_name(held.type.dtype)!r}, {held.type.dims!r})"


def _numpy_name(dtype: str) -> str:
    return "uint16" if dtype == "bf16" else NUMERIC[dtype][0]


def _python(compiled: Compiled, path: Path) -> list[Path]:
    # Python would take a library of the module's own name for an extension module.
    shared = path.with_name(f"lib{path.stem}{shared_suffix(compiled.target)}")
    image = path.with_suffix(".state").name if _has_file(compiled) else ""
    path.write_text(python_module(compiled, shared.name, image), encoding="utf-8")
    return [path, *_shared(compiled, shared)]


def _wheel(compiled: Compiled, path: Path) -> list[Path]:
    """A wheel whose package holds the module and the library."""
    name = compiled.library.name
    tag = f"py3-none-{_platform(compiled.target)}"
    info = f"{name}-{VERSION}.dist-info"
    with tempfile.TemporaryDirectory() as folder:
        written = write(compiled, Path(folder) / f"{name}.py")
        files = {f"{name}/{p.name}": p.read_bytes() for p in written if p.suffix != ".py"}
        module = next(p for p in written if p.suffix == ".py").read_bytes()
    files[f"{name}/__init__.py"] = module
    files[f"{name}/{name}.h"] = c_header(compiled).encode()
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n"
        "Summary: Steps compiled ahead of time by stepforge\n"
        "Requires-Dist: numpy\nRequires-Dist: cffi\n"
    ).encode()
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: stepforge\nRoot-Is-Purelib: false\nTag: {tag}\n"
    ).encode()
    rows = [f"{n},sha256={_digest(data)},{len(data)}" for n, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    path = path.with_name(f"{name}-{VERSION}-{tag}.whl")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file, data in files.items():
            wheel.writestr(zipfile.ZipInfo(file), data)
    return [path]


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _platform(target: Target) -> str:
    machine = target.triple.split("-")[0]
    if "linux" in target.triple:
        return f"linux_{machine}"
    if target.windows:
        return {"x86_64": "win_amd64", "aarch64": "win_arm64"}.get(machine, f"win_{machine}")
    return f"macosx_11_0_{machine}"


WRITERS: dict[str, Callable[[Compiled, Path], list[Path]]] = {
    ".o": _object, ".a": _archive, ".so": _shared, ".dylib": _shared, ".dll": _shared,
    ".h": _header, ".py": _python, ".whl": _wheel,
}  # fmt: skip
