"""The command line: ``stepforge compile | run | bench | dump | opt | cache | devices``.

A command prints what it made and exits with 0. It exits with 1, after one block that says why,
where the input cannot be done, or where what was to be compared differs; with 2 where the command
itself is not understood; with 3 where the mistake is ours; with 130 where the user stopped it.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from stepforge import (
    cli_bench,
    cli_cache,
    cli_compile,
    cli_completion,
    cli_devices,
    cli_run,
    cli_show,
)
from stepforge.cli_files import CommandError
from stepforge.cli_inputs import INPUT_HELP
from stepforge.cli_parsers import add_debug
from stepforge.ir.errors import IRError, OpError
from stepforge.runtime import backends

_ABOUT = "Compiles TensorFlow-1 graph programs, runs them, and shows what becomes of them."
_MORE = f"""\
{INPUT_HELP}
Each command explains itself, with examples:  stepforge compile --help

exit status:
  0    done
  1    it cannot be done, or what was compared differs; the reason is told
  2    wrong usage
  3    a mistake of stepforge's own (--debug shows where)
  130  stopped by Ctrl-C

environment:
  STEPFORGE_CACHE    the folder of compiled steps, or off
  STEPFORGE_CHECK    1: check every pass of what is compiled, and name the one that is wrong
  STEPFORGE_DUMP     a folder that gets the stages of every step that is compiled
  STEPFORGE_BACKEND  what writes kernels: {', '.join(backends.BACKENDS)}
  STEPFORGE_BLAS     off: matrix products by our own kernels only
  STEPFORGE_ENTRY    python: steps are called through Python
  STEPFORGE_PERF     1: names of compiled functions for perf
  STEPFORGE_GDB      1: names of compiled functions for gdb
"""
DONE, FAILED, OURS, STOPPED = 0, 1, 3, 130
# What is wrong with an input; anything else is a mistake of ours.
_ERRORS = (
    CommandError, IRError, OpError, ValueError, TypeError, RuntimeError, OSError, ImportError,
    MemoryError,
)  # fmt: skip
_MODULES = (
    cli_compile, cli_run, cli_bench, cli_show, cli_devices, cli_cache, cli_completion,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    options = make_parser().parse_args(arguments)
    try:
        return options.command(options) or DONE
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return STOPPED
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        print(f"stepforge: error: {_text(error)}", file=sys.stderr)
        return FAILED if isinstance(error, _ERRORS) else OURS


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        "stepforge", description=_ABOUT, epilog=_MORE, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_debug(parser)
    parser.set_defaults(parser=parser)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in _MODULES:
        module.add_commands(commands)
    return parser


def _text(error: BaseException) -> str:
    if not isinstance(error, _ERRORS):
        return (f"{type(error).__name__}: {error}\nThis is a mistake of stepforge's own; --debug"
                " shows where it is.")
    if isinstance(error, MemoryError):
        return f"memory ran out{f': {error}' if str(error) else ''}"
    return str(error) or type(error).__name__
