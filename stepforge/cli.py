"""The command line: ``stepforge compile | run | dump | opt | devices``.

A command prints what it made and exits with 0; with 1 where the input cannot be done, after one
block that says why; with 2 where the command itself is not understood.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from stepforge import cli_compile, cli_show
from stepforge.cli_inputs import INPUT_HELP, CommandError
from stepforge.ir.errors import IRError, OpError

_ABOUT = "Compiles TensorFlow-1 graph programs, runs them, and shows what becomes of them."
_MORE = f"""\
{INPUT_HELP}
Each command explains itself:  stepforge compile --help
"""

# What is wrong with an input; anything else is a mistake of ours, and shows where.
_ERRORS = (
    CommandError, IRError, OpError, KeyError, ValueError, TypeError, RuntimeError, OSError,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    parser = argparse.ArgumentParser(
        "stepforge", description=_ABOUT, epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (cli_compile, cli_show):
        module.add_commands(commands)
    options = parser.parse_args(arguments)
    try:
        options.command(options)
    except BrokenPipeError:  # whoever reads has seen enough
        sys.stderr.close()
    except _ERRORS as error:
        print(f"stepforge: error: {_text(error)}", file=sys.stderr)
        return 1
    return 0


def _text(error: BaseException) -> str:
    text = error.args[0] if isinstance(error, KeyError) else error
    return str(text) or type(error).__name__
