"""``NAME_message``: a status in words, with the values of the check that failed.

The text is written into the caller's workspace, where the call left the values; without a workspace
the caller gets the text with ``{0}`` in the place of the first value, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter

from stepforge.codegen.ahead_functions import aligned_up, define, exported
from stepforge.codegen.driver_values import byte_data
from stepforge.codegen.exports import TEXT, TEXT_BYTES, VALUES
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target

_LONGEST_NUMBER = 20  # characters of the least i64
_OPEN, _MINUS, _ZERO = (str(ord(c)) for c in "{-0")


@dataclass(frozen=True, slots=True)
class Message:
    """What a status means; ``text`` is a format whose fields are the values."""

    status: int
    text: str

    @property
    def template(self) -> str:
        """The text with ``{0}`` for the first value, and so on: each field is three characters.

        A float, which would need a formatter of its own, is a question mark.
        """
        parts, count = [], 0
        for literal, field, form, _ in Formatter().parse(self.text):
            parts.append(literal)
            if field is not None:
                place = chr(ord("0") + int(field or count))
                parts.append("?" if form else f"{{{place}}}")
                count += 1
        return "".join(parts)


def emit_message(
    module: ModuleWriter, target: Target, name: str, messages: Sequence[Message]
) -> None:
    """Write ``const char *NAME_message(int32_t status, void *workspace)``."""
    params = [("i32", "status"), ("ptr", "workspace")]
    fn = exported(module, target, f"{name}_message", "ptr", params)
    texts = [_text(module, name, m) for m in (Message(0, "success"), *messages)]
    unknown = _text(module, name, Message(-1, "an unknown status"))
    cases = [fn.label("case") for _ in texts]
    other, chosen = fn.label("other"), fn.label("chosen")
    table = " ".join(
        f"i32 {status}, label %{label}" for (status, _), label in zip(texts, cases, strict=True)
    )
    fn.do(f"switch i32 %status, label %{other} [{table}]")
    for label in (*cases, other):
        fn.start(label)
        fn.branch(chosen)
    fn.start(chosen)
    sources = [(text, label) for (_, text), label in zip(texts, cases, strict=True)]
    text = fn.phi("ptr", *sources, (unknown[1], other))
    none, some = fn.label("none"), fn.label("some")
    fn.branch_if(fn.emit("icmp eq ptr %workspace, null"), none, some)
    fn.start(none)
    fn.do(f"ret ptr {text}")
    fn.start(some)
    callee = module.helper("stepforge_format", lambda: _format(module))
    fn.do(f"ret ptr {fn.call('ptr', callee, ('ptr', text), ('ptr', '%workspace'))}")
    define(fn)


def _text(module: ModuleWriter, name: str, message: Message) -> tuple[int, str]:
    data = message.template.encode()[: TEXT_BYTES - 1] + b"\0"
    label = f"message_{name}_{message.status}"
    return message.status, byte_data(module, label, data)


def _format(module: ModuleWriter) -> str:
    """``format(template, workspace)``: the template with values for ``{0}``, in the workspace."""
    params = [("ptr", "template"), ("ptr", "workspace")]
    fn = FunctionWriter(
        module, "stepforge_format", "ptr", params, linkage="internal", attributes="noinline"
    )
    workspace = aligned_up(fn, "%workspace")
    text = fn.offset(workspace, TEXT)
    limit = fn.offset(text, TEXT_BYTES - _LONGEST_NUMBER - 1)
    read, write = fn.alloca("ptr"), fn.alloca("ptr")
    fn.store("ptr", "%template", read)
    fn.store("ptr", text, write)
    head, body, field, plain, done = (
        fn.label(hint) for hint in ("head", "body", "field", "plain", "done")
    )
    fn.branch(head)
    fn.start(head)
    source, into = fn.load("ptr", read), fn.load("ptr", write)
    letter = fn.load("i8", source)
    ended = fn.emit(f"icmp eq i8 {letter}, 0")
    full = fn.emit(f"icmp uge ptr {into}, {limit}")
    fn.branch_if(fn.emit(f"or i1 {ended}, {full}"), done, body)
    fn.start(body)
    fn.branch_if(fn.emit(f"icmp eq i8 {letter}, {_OPEN}"), field, plain)
    fn.start(plain)
    fn.store("i8", letter, into)
    _go_on(fn, head, (read, fn.offset(source, 1)), (write, fn.offset(into, 1)))
    fn.start(field)
    after = _field(fn, source, into, fn.offset(workspace, VALUES + 8))
    _go_on(fn, head, (read, fn.offset(source, 3)), (write, after))
    fn.start(done)
    fn.store("i8", "0", into)
    fn.do(f"ret ptr {text}")
    return fn.finish()


def _field(fn: FunctionWriter, source: str, into: str, values: str) -> str:
    """Write the value that the field at ``source`` stands for; what is behind it."""
    which = fn.emit(f"zext i8 {fn.load('i8', source, 1)} to i64")
    place = fn.offset(values, fn.emit(f"sub i64 {which}, {_ZERO}"), "i64")
    callee = fn.module.helper("stepforge_number", lambda: _number(fn.module))
    return fn.call("ptr", callee, ("i64", fn.load("i64", place)), ("ptr", into))


def _go_on(fn: FunctionWriter, head: str, *moved: tuple[str, str]) -> None:
    """The next turn, with pointers moved on."""
    for cell, pointer in moved:
        fn.store("ptr", pointer, cell)
    fn.branch(head)


def _number(module: ModuleWriter) -> str:
    """``number(value, into)``: write a decimal number; what is behind it."""
    params = [("i64", "value"), ("ptr", "into")]
    fn = FunctionWriter(module, "stepforge_number", "ptr", params, linkage="internal")
    start, left, count = fn.alloca("ptr"), fn.alloca("i64"), fn.alloca("i64")
    fn.store("ptr", "%into", start)
    negative = fn.emit("icmp slt i64 %value, 0")
    size = fn.emit(f"select i1 {negative}, i64 {fn.emit('sub i64 0, %value')}, i64 %value")

    def sign() -> None:
        fn.store("i8", _MINUS, "%into")
        fn.store("ptr", fn.offset("%into", 1), start)

    fn.if_(negative, sign)
    first = fn.load("ptr", start)
    fn.store("i64", size, left)
    fn.store("i64", "0", count)
    _digits(fn, left, count, None)
    total = fn.load("i64", count)
    fn.store("i64", size, left)
    fn.store("i64", total, count)
    _digits(fn, left, count, first)
    fn.do(f"ret ptr {fn.offset(first, total)}")
    return fn.finish()


def _digits(fn: FunctionWriter, left: str, count: str, into: str | None) -> None:
    """Count the digits of ``left``, or write them backwards from ``count`` where there is
    ``into``.
    """
    again, after = fn.label("digit"), fn.label("digits")
    fn.branch(again)
    fn.start(again)
    value = fn.load("i64", left)
    rest = fn.emit(f"udiv i64 {value}, 10")
    place = fn.emit(f"add i64 {fn.load('i64', count)}, {1 if into is None else -1}")
    fn.store("i64", place, count)
    fn.store("i64", rest, left)
    if into is not None:
        digit = fn.emit(f"trunc i64 {fn.emit(f'urem i64 {value}, 10')} to i8")
        fn.store("i8", fn.emit(f"add i8 {digit}, {_ZERO}"), fn.offset(into, place))
    fn.branch_if(fn.emit(f"icmp eq i64 {rest}, 0"), after, again)
    fn.start(after)
