"""``stepforge completion``: what bash offers, asked as bash asks; zsh too where there is one."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stepforge.cli import main, make_parser

SHELLS = {
    "bash": "{script}\nCOMP_WORDS=({words}); COMP_CWORD={at}; _stepforge;"
    ' printf "%s\\n" "${{COMPREPLY[@]}}"',
    "zsh": "autoload -U +X compinit bashcompinit; compinit -D -u; bashcompinit\n{script}\n"
    "setopt ksh_arrays; COMP_WORDS=({words}); COMP_CWORD={at}; _stepforge;"
    ' printf "%s\\n" "${{COMPREPLY[@]}}"',
}


@pytest.fixture(scope="module", params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param}")
    return str(request.param)


def offered(shell: str, line: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The words that ``shell`` offers for the last word of ``line``."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    *words, last = line.split(" ")
    text = SHELLS[shell].format(
        script=script, words=" ".join(map(shlex.quote, [*words, last])), at=len(words)
    )
    done = subprocess.run([shell, "-c", text], capture_output=True, text=True, check=True)
    assert not done.stderr
    # zsh's compgen gives all, and leaves it to zsh which of them match.
    return [each for each in done.stdout.split() if shell == "bash" or each.startswith(last)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("stepforge co", ["compile", "completion"]),
        ("stepforge --de", ["--debug"]),
        ("stepforge --debug be", ["bench"]),
        ("stepforge dump --st", ["--stage"]),
        ("stepforge dump model.py --stage l", ["loops", "llvm"]),
        ("stepforge opt model.sf --passes fo", ["fold"]),
        ("stepforge opt model.sf --passes fold,fuse", ["fold,fuse", "fold,fuse_products"]),
        ("stepforge opt model.sf --passes fold,cse,lo", ["fold,cse,lower", "fold,cse,loops"]),
        ("stepforge compile --variables ", ["baked", "arguments", "file"]),
        ("stepforge compile --opt-level ", ["0", "1", "2"]),
        ("stepforge cache v", ["verify"]),
        ("stepforge completion ", ["bash", "zsh"]),
        ("stepforge run --restore ", []),  # the shell offers files
        ("stepforge run mod", []),
        ("stepforge run -o out.npz --deb", ["--debug"]),
        ("stepforge dump model.py --stage=l", ["--stage=loops", "--stage=llvm"]),
        ("stepforge opt model.sf --passes=fold,cse,lo",
         ["--passes=fold,cse,lower", "--passes=fold,cse,loops"]),
    ],
)
def test_words(shell: str, line: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert offered(shell, line, capsys) == words


def test_bash_takes_an_option_and_its_value_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert offered("bash", "stepforge dump model.py --stage = l", capsys) == ["loops", "llvm"]
    assert offered("bash", "stepforge compile --opt-level =", capsys) == ["0", "1", "2"]
    assert offered("bash", "stepforge cache ls --dir =", capsys) == []


def test_every_option_of_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the help of a command lists is what the shell offers."""
    commands = offered(shell, "stepforge ", capsys)
    assert f"{{{','.join(commands)}}}".count(",") >= 7
    for command in commands:
        with pytest.raises(SystemExit):
            make_parser().parse_args([command, "--help"])
        told = capsys.readouterr().out
        options = offered(shell, f"stepforge {command} -", capsys)
        assert {"-h", "--help", "--debug"} <= set(options)
        assert all(option in told for option in options)
        assert all(word.strip("[],") in options for word in told.split("examples")[0].split()
                   if word.startswith("[--"))


def test_bash_completes_a_line_by_the_registered_function(tmp_path: Path) -> None:
    script = tmp_path / "script"
    command = [sys.executable, "-m", "stepforge", "completion", "bash"]
    script.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    asked = f"source {script}; complete -p stepforge"
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "complete -o default -F _stepforge stepforge\n"
