"""What the parsers of all commands share."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

EXIT_HELP = "exit status: 0 done, 1 it cannot be done (the reason is told), 2 wrong usage\n"


def command_parser(commands: Any, name: str, summary: str, more: str) -> argparse.ArgumentParser:
    """The parser of one command, whose help ends with ``more``: its examples."""
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"{more}\n{EXIT_HELP}", formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_debug(made, argparse.SUPPRESS)  # lest it takes back what stood before the command
    return made


def add_debug(parser: argparse.ArgumentParser, default: Any = False) -> None:
    """The option ``--debug``, before the command and behind it."""
    parser.add_argument("--debug", action="store_true", default=default,
                        help="show where an error comes from, as Python does")


def complete(action: argparse.Action, words: Iterable[str]) -> None:
    """Let shells offer ``words`` for an option that takes a list of them between commas."""
    action.words = tuple(words)  # type: ignore[attr-defined]
