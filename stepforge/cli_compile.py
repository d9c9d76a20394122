"""``stepforge compile``: steps to objects, shared libraries, C headers, Python modules, wheels."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stepforge import cli_inputs, cli_steps
from stepforge.cli_files import CommandError
from stepforge.cli_inputs import INPUT_HELP, GraphInput, Text
from stepforge.cli_parsers import command_parser
from stepforge.cli_progress import progress
from stepforge.codegen import target
from stepforge.runtime import ahead_files
from stepforge.runtime.ahead import Compiled
from stepforge.runtime.ahead_steps import Step, compile_ahead, compile_ir, parse_feed

_ABOUT = """\
Compile steps of a graph ahead of time. Nothing but libc and libm is needed to run them."""
_MORE = f"""\
{INPUT_HELP}
examples:
  # a classifier with its weights, as a library and its header
  stepforge compile model.py:build --restore weights.npz --fetch predictions \\
      --feed 'pixels:f32[n,64]' -o libdigits.so -o digits.h
  # for Python without stepforge and LLVM: digits.py and libdigits.so
  stepforge compile model.py --fetch predictions --feed pixels -o digits.py
  # two steps that share variables; the caller keeps those (digits_init, digits_get, digits_set)
  stepforge compile model.py --name digits -o digits.o -o digits.h \\
      --entry-point train --fetch loss --fetch Adam --feed pixels --feed labels \\
      --entry-point predict --fetch predictions --feed pixels
  # a frozen graph: its placeholders are the arguments
  stepforge compile frozen.pb:logits -o frozen.so -o frozen.h
  # for another machine
  stepforge compile model.py --fetch y --feed x -o y.o --target-triple aarch64-linux-gnu

sizes that are not known (`?`, or a name as in f32[n,64]) are parameters of the functions.
"""
_NONE = "", (), ()  # where there is neither --entry-point nor --fetch
_LEVELS = ("O0", "O1", "O2")


class _Group(argparse.Action):
    """Collects --fetch and --feed for the --entry-point before them."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        groups = namespace.groups = list(namespace.groups)  # never the default itself
        if self.dest == "entry-point":
            groups.append((values, (), ()))
            return
        name, fetches, feeds = groups.pop() if groups else ("", (), ())
        if self.dest == "fetch":
            fetches = (*fetches, values)
        else:
            feeds = (*feeds, values)
        groups.append((name, fetches, feeds))


def add_commands(commands: Any) -> None:
    """Add ``compile`` to the commands."""
    parser = command_parser(
        commands, "compile", "compile steps to an object, library, Python module or wheel", _MORE
    )
    parser.description = _ABOUT
    cli_inputs.add_input(parser)
    what = parser.add_argument_group("what to compile")
    what.add_argument("--entry-point", dest="entry-point", action=_Group, metavar="NAME",
                      help="the C name of a step; --fetch and --feed behind it are that step's")
    what.add_argument("--fetch", action=_Group, metavar="TENSOR",
                      help="a result, or an operation to run (once for each)")
    what.add_argument("--feed", action=_Group, metavar="TENSOR[:TYPE]",
                      help="an argument: x, x:f32[?,784], x:f32[n,784] (once for each)")
    what.add_argument("--variables", choices=("baked", "arguments", "file"), default="baked",
                      help="where values of variables are: in the code (what a step writes is kept"
                      " by the caller), arguments of the functions, or a .state file that the"
                      " caller reads")
    what.add_argument("--bound", action="append", default=[], metavar="TENSOR=SIZE",
                      help="the most that a size can be which depends on data: y=100, or by sizes"
                      " of feeds, y=2*n, y=x_0 (once for each tensor)")
    how = parser.add_argument_group("how")
    how.add_argument("-o", "--output", action="append", required=True, metavar="FILE",
                     help=f"a file to write, of the kind that its name says:"
                     f" {' '.join(ahead_files.WRITERS)} (may be given several times)")
    how.add_argument("--name", help="the name of the library, before _init, _get, _set")
    how.add_argument("--target-triple", default="", metavar="TRIPLE",
                     help="the machine, as LLVM calls it: aarch64-linux-gnu, x86_64-windows-msvc")
    how.add_argument("--target-cpu", default="", metavar="CPU",
                     help="native, x86-64-v2, x86-64-v3 (the default there), x86-64-v4, or a name"
                     " of LLVM's together with --target-features")
    how.add_argument("--target-features", default="", metavar="LIST",
                     help="such as +avx512f,-fma (write --target-features=-fma)")
    how.add_argument("--opt-level", choices=("0", "1", "2"), default="2",
                     help="how much LLVM optimises (2)")
    parser.set_defaults(command=compile_command, groups=())


def compile_command(options: argparse.Namespace) -> None:
    """Compile, and print what was written."""
    for file in options.output:
        if Path(file).suffix not in ahead_files.WRITERS:
            known = " ".join(ahead_files.WRITERS)
            raise CommandError(f"{file}: the name of a file ends in one of {known}")
    with progress("compiling"):
        compiled = _compiled(options)
    written = [path for file in options.output for path in ahead_files.write(compiled, file)]
    for path in dict.fromkeys(written):
        print(f"wrote {path} ({path.stat().st_size} bytes)")


def _compiled(options: argparse.Namespace) -> Compiled:
    given = cli_inputs.read(options)
    name = options.name or _identifier(Path(options.output[0]).stem)
    how: dict[str, Any] = {
        "variables": options.variables,
        "target": target.chosen(
            options.target_triple, options.target_cpu, options.target_features
        ),
        "level": _LEVELS[int(options.opt_level)],
    }
    if isinstance(given, Text):
        return compile_ir(given.module, values=given.restored, name=name, **how)
    steps = _steps(given, options.groups, name)
    bounds = dict(_bound(given, text) for text in options.bound)
    return compile_ahead(steps, session=given.session, name=name, bounds=bounds, **how)


def _bound(given: GraphInput, text: str) -> tuple[Any, str]:
    tensor, sign, limit = text.partition("=")
    if not sign:
        raise CommandError(f"a bound is written TENSOR=SIZE, not {text!r}")
    return given.element(tensor.strip()), limit.strip()


def _steps(
    given: GraphInput, groups: Sequence[tuple[str, Sequence[str], Sequence[str]]], name: str
) -> list[Step]:
    return [_step(given, own or name, fetches, feeds) for own, fetches, feeds in groups or [_NONE]]


def _step(
    given: GraphInput, name: str, fetches: Sequence[str], feeds: Sequence[str]
) -> Step:
    try:
        wanted = cli_steps.fetches_of(given, fetches)
    except CommandError as error:
        raise CommandError(f"{name}: {error}") from None
    typed = [parse_feed(text) for text in feeds]
    known = [replace(feed, tensor=cli_steps.known_name(given, feed.tensor)) for feed in typed]
    return Step(name, wanted, known or cli_steps.feeds_of(given, wanted, ()))


def _identifier(stem: str) -> str:
    """A C name for what a file is called: ``libdigits`` is of ``digits``."""
    return re.sub(r"\W", "_", stem.removeprefix("lib")) or "step"
