"""``stepforge completion``: a script with which bash and zsh complete commands and their words.

It is made from the parser, so that it knows what the parser knows: commands, options, and the words
that an argument takes. Everything else completes to files, as shells do by themselves.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from stepforge.cli_parsers import command_parser

_MORE = """\
examples:
  source <(stepforge completion bash)        # in ~/.bashrc, for every shell
  stepforge completion zsh > ~/.zfunc/_stepforge.sh && source ~/.zfunc/_stepforge.sh
"""

# A word is completed by what the one before it takes, else by where it stands; --option=value is
# three words to bash and one to zsh. Words of lists keep what stands in front of the last comma.
_SCRIPT = """\
_stepforge() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
    local command="" at=1 words="" list="" head=""
    case "$before" in =) before="${{COMP_WORDS[COMP_CWORD-2]}}" ;; esac
    case "$word" in
        =) word="" ;;
        --*=*) before="${{word%%=*}}"; head="$before="; word="${{word#*=}}" ;;
    esac
    while [ "$at" -lt "$COMP_CWORD" ]; do
        case "${{COMP_WORDS[at]}}" in
            {commands}) command="${{COMP_WORDS[at]}}"; break ;;
        esac
        at=$((at + 1))
    done
    case "$command $before" in
{values}
        *) case "$word" in
            -*) case "$command" in
{options}
            esac ;;
            *) case "$command" in
                "") words="{names}" ;;
{places}
            esac ;;
        esac ;;
    esac
    if [ -n "$list" ]; then
        case "$word" in *,*) head="$head${{word%,*}},"; word="${{word##*,}}" ;; esac
    fi
    COMPREPLY=($(compgen -P "$head" -W "$words" -- "$word"))
}}
"""
_REGISTER = {
    "bash": "complete -o default -F _stepforge stepforge\n",
    "zsh": "autoload -U +X compinit && compinit\n"
    "autoload -U +X bashcompinit && bashcompinit\n"
    "complete -o default -F _stepforge stepforge\n",
}  # fmt: skip


def add_commands(commands: Any) -> None:
    """Add ``completion``, which describes ``commands``."""
    parser = command_parser(commands, "completion", "print what completes commands in a shell",
                            _MORE)
    parser.add_argument("shell", choices=tuple(_REGISTER), help="whose language it is in")
    parser.set_defaults(command=completion_command)


def completion_command(options: argparse.Namespace) -> None:
    """Print the script."""
    print(script(options.parser, options.shell), end="")


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for ``shell`` that completes what ``parser`` understands."""
    parsers = next(a.choices for a in _actions(parser) if isinstance(a.choices, dict))
    values, options, places = [], [], []
    for name, each in {"": parser, **parsers}.items():
        known = " ".join(o for action in _actions(each) for o in action.option_strings)
        pattern = name or '""'  # before a command
        options.append(f'                {pattern}) words="{known}" ;;')
        for action in _actions(each):
            if isinstance(action.choices, dict):
                continue
            words = " ".join(getattr(action, "words", None) or action.choices or ())
            takes = action.nargs != 0
            if action.option_strings and takes:
                patterns = "|".join(f'"{name} {option}"' for option in action.option_strings)
                is_list = " list=1" if hasattr(action, "words") else ""
                values.append(f'        {patterns}) words="{words}"{is_list} ;;')
            elif not action.option_strings and words:
                places.append(f'                {name}) words="{words}" ;;')
    body = _SCRIPT.format(
        commands="|".join(parsers), names=" ".join(parsers), values="\n".join(values),
        options="\n".join(options), places="\n".join(places),
    )
    return body + _REGISTER[shell]


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """What a parser was given: its arguments and options."""
    for group in parser._action_groups:
        yield from group._group_actions
