"""The structure that the design promises, from the syntax trees: layers, imports, privacy, size.

A rule takes a file and yields what is wrong with it; ``BROKEN`` shows of each that it sees it.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# layer -> the layers that it may import beside itself
MAY_IMPORT: dict[str, set[str]] = {
    "ir": set(),
    "frontend": {"ir"},
    "passes": {"ir"},
    "codegen": {"ir"},
    "runtime": {"ir", "frontend", "passes", "codegen"},
    "stepforge": {"ir", "frontend", "passes", "codegen", "runtime"},
}
HEAVY = {"cffi", "google", "llvmlite", "ml_dtypes", "numba", "scipy"}
LONGEST_FILE = 500
LONGEST_FUNCTION = 40
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Source:
    """A file of the repository: its path from the root, its text and its tree."""

    path: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @functools.cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree."""
        return tuple(ast.walk(self.tree))

    @property
    def layer(self) -> str:
        return self.path.partition("/")[0]

    @functools.cached_property
    def private_names(self) -> frozenset[str]:
        """The private names that the file defines: functions, classes, and what it assigns."""
        names = set()
        for node in self.nodes:
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
        return frozenset(name for name in names if is_private(name))


@functools.cache
def sources(*folders: str) -> tuple[Source, ...]:
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return tuple(Source(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, int]]:
    """Full names of the modules (or of what is taken from them) that are imported, and lines."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs as the module loads: neither functions' bodies nor ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not typing and not isinstance(child, FUNCTIONS):
            yield child
            yield from run_at_import(child)


def layers(source: Source) -> Iterator[str]:
    """A layer imports only lower ones; nothing below the facade imports it."""
    for module, line in imports(source.nodes):
        package, *rest = module.split(".")
        target = rest[0] if rest and rest[0] in MAY_IMPORT else "stepforge"
        if package == "stepforge" and target not in MAY_IMPORT[source.layer] | {source.layer}:
            yield f"{line}: imports {module}"


def numpy_only(source: Source) -> Iterator[str]:
    """The ir layer loads with the standard library and NumPy."""
    known = {"numpy", "stepforge", *sys.stdlib_module_names}
    for module, line in imports(run_at_import(source.tree)):
        if source.layer == "ir" and module.split(".")[0] not in known:
            yield f"{line}: imports {module}"


def heavy_late(source: Source) -> Iterator[str]:
    """Heavy packages load on first use; test_packaging.py looks at a running process."""
    for module, line in imports(run_at_import(source.tree)):
        if module.split(".")[0] in HEAVY:
            yield f"{line}: imports {module} as it loads"


def private_imports(source: Source) -> Iterator[str]:
    """No private name of another file is imported."""
    for module, line in imports(source.nodes):
        package, *rest = module.split(".")
        if package == "stepforge" and any(map(is_private, rest)):
            yield f"{line}: imports {module}"


@functools.cache
def definitions() -> frozenset[str]:
    """Every private name that some file of the package defines."""
    return frozenset[str]().union(*(source.private_names for source in sources(*MAY_IMPORT)))


def root(node: ast.expr) -> str:
    """The name that a chain of attributes starts from, or nothing."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def outside_modules(source: Source) -> set[str]:
    """The names that modules from outside the project are imported under."""
    found = [node for node in source.nodes if isinstance(node, ast.Import)]
    outside = [n for node in found for n in node.names if not n.name.startswith("stepforge")]
    return {n.asname or n.name.partition(".")[0] for n in outside}


def private_attributes(source: Source) -> Iterator[str]:
    """No private attribute of another file is used; what a class inherits counts as its own."""
    outside, defined = outside_modules(source), definitions()
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and node.attr in defined:
            own = node.attr in source.private_names or root(node) in outside
            if not own and ast.unparse(node.value) not in ("self", "cls", "super()"):
                yield f"{node.lineno}: uses .{node.attr}"


def records(source: Source) -> Iterator[str]:
    """Dataclasses are made by ``ir/records.py``, which costs an import less."""
    for module, line in imports(source.nodes):
        if module == "dataclasses.dataclass" and source.path != "ir/records.py":
            yield f"{line}: imports {module}"


def chapters(source: Source) -> Iterator[str]:
    """A file says why it exists, and can be read in one sitting."""
    lines = len(source.text.splitlines())
    if lines > LONGEST_FILE:
        yield f"{lines} lines"
    if lines and not ast.get_docstring(source.tree):
        yield "no docstring at the top"


def short_functions(source: Source) -> Iterator[str]:
    """A function fits on a screen."""
    for node in source.nodes:
        if isinstance(node, FUNCTIONS):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                yield f"{node.lineno}: {node.name} has {lines} lines"


EVERYWHERE = (*MAY_IMPORT, "tests", "examples", "benchmarks")
Rule = Callable[[Source], Iterator[str]]
RULES: dict[Rule, tuple[str, ...]] = {
    layers: tuple(MAY_IMPORT),
    numpy_only: tuple(MAY_IMPORT),
    heavy_late: tuple(MAY_IMPORT),
    private_imports: tuple(MAY_IMPORT),
    private_attributes: tuple(MAY_IMPORT),
    records: tuple(MAY_IMPORT),
    chapters: EVERYWHERE,
    short_functions: EVERYWHERE,
}
BROKEN: list[tuple[Rule, str, str]] = [
    (layers, "ir/x.py", "def f():\n    from stepforge.passes import manager"),
    (layers, "passes/x.py", "import stepforge.codegen.llvm"),
    (layers, "runtime/x.py", "import stepforge"),
    (layers, "codegen/x.py", "from stepforge import Session"),
    (numpy_only, "ir/x.py", "try:\n    import scipy\nexcept ImportError:\n    pass"),
    (heavy_late, "runtime/x.py", "from llvmlite import binding"),
    (heavy_late, "codegen/jit.py", "class A:\n    import cffi"),
    (private_imports, "ir/x.py", "from stepforge.ir.dims import _collect"),
    (private_imports, "ir/x.py", "from stepforge.ir._hidden import name"),
    (private_attributes, "passes/x.py", "def f(const):\n    return const._key()"),
    (records, "passes/x.py", "from dataclasses import dataclass, field"),
    (chapters, "ir/x.py", "import math"),
    (chapters, "ir/x.py", '"""Why."""\n' + "x = 1\n" * 500),
    (short_functions, "ir/x.py", "def f():\n" + "    x = 1\n" * 40),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule: Rule) -> None:
    found = [f"{s.path}:{wrong}" for s in sources(*RULES[rule]) for wrong in rule(s)]
    assert not found, "\n".join([rule.__doc__ or "", *found])


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN)
def test_the_rule_sees_what_breaks_it(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text)))


def test_what_only_type_checkers_and_functions_import_is_late() -> None:
    text = "if TYPE_CHECKING:\n    import scipy\ndef f():\n    import llvmlite"
    assert not list(heavy_late(Source("ir/x.py", text)))
