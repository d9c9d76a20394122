"""The options of ``stepforge dump``: which stage or pass, and in which form."""

from __future__ import annotations

import argparse
from typing import Any

from stepforge.cli_files import CommandError
from stepforge.runtime.show.dumps import ALL, DEFAULT_STAGE
from stepforge.runtime.variant import stages

DUMP_HELP = f"""\
stages: {', '.join(stages())}, and all of them (text and html)
passes: `stepforge opt --help` lists them; fold:2 is the second run of fold
forms:  text; html, one page that needs nothing else; dot, for Graphviz; svg, a drawing

examples:
  stepforge dump model.py --fetch y --feed x --stage loops
  stepforge dump model.py --fetch y --feed x --pass fuse --before
  stepforge dump model.py --fetch y --feed x -o y.html
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    parser.add_argument("--stage", choices=[*stages(), ALL],
                        help="which one (of text fused, of html all, of drawings graph)")
    parser.add_argument("--pass", dest="passed", metavar="NAME", help="what a pass made, instead")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--before", action="store_true", help="what the pass was given")
    when.add_argument("--after", action="store_true", help="what it made, as without either")
    parser.add_argument("--format", choices=[*DEFAULT_STAGE],
                        help="by default what FILE's name says, or text")
    parser.add_argument("-o", "--output", metavar="FILE", help="write it there")


def keywords(options: argparse.Namespace) -> dict[str, Any]:
    """What ``step.dump`` takes. Raises: CommandError for options that say nothing together."""
    if (options.before or options.after) and options.passed is None:
        raise CommandError("--before and --after are of a pass: name it with --pass")
    when = "before" if options.before else "after"
    return {"stage": options.stage, "format": options.format, when: options.passed}


def report(text: str, options: argparse.Namespace) -> None:
    """Print a dump, or that it was written."""
    print(f"wrote {options.output}" if options.output else text.rstrip("\n"))
