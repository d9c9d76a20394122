"""``NAME_message``: a status in words, with the values of the check that failed.

The text is written into the caller's workspace, where the call left the values; without a workspace
the caller gets the text with ``{0}`` in the place of the first value, ``{0:g}`` for a float. libc
writes floats, whatever the decimal point of the program's locale.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter

from stepforge.codegen.ahead_functions import aligned_up, define, exported
from stepforge.codegen.driver_values import byte_data
from stepforge.codegen.exports import TEXT, TEXT_BYTES, VALUES
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target
from stepforge.ir.records import record

_LONGEST_NUMBER = 20  # characters of the least i64; a float has at most 13
_OPEN, _MINUS, _ZERO, _COLON, _POINT = (str(ord(c)) for c in "{-0:.")
_NUMBER, _FLOAT = 3, 5  # characters of the fields {0} and {0:g}
_BUFFER = 32  # bytes for a float as libc writes it
_NOT_A_NUMBER = "0x7FF8000000000000"
_COUNTS_AS_C = 2  # of Windows' C library: what does not fit is counted, as the standard says


@record(frozen=True, slots=True)
class Message:
    """What a status means; ``text`` is a format whose fields are the values."""

    status: int
    text: str

    @property
    def template(self) -> str:
        """The text with ``{0}`` for the first value, and so on, ``{0:g}`` where it is a float."""
        parts, count = [], 0
        for literal, field, form, _ in Formatter().parse(self.text):
            parts.append(literal.replace("{", "{{"))
            if field is not None:
                place = chr(ord("0") + int(field or count))
                parts.append(f"{{{place}:g}}" if form else f"{{{place}}}")
                count += 1
        return "".join(parts)

    @property
    def has_floats(self) -> bool:
        """Whether a value of it is a float."""
        return any(form for _, _, form, _ in Formatter().parse(self.text))


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
    # The way to print floats is handed in, so that a library without them does without libc.
    floats = "null"
    if any(m.has_floats for m in messages):
        floats = module.helper("stepforge_float", lambda: _float(module, target))
    given = [("ptr", text), ("ptr", "%workspace"), ("ptr", floats)]
    fn.do(f"ret ptr {fn.call('ptr', callee, *given)}")
    define(fn)


def _text(module: ModuleWriter, name: str, message: Message) -> tuple[int, str]:
    data = message.template.encode()[: TEXT_BYTES - 1] + b"\0"
    label = f"message_{name}_{message.status}"
    return message.status, byte_data(module, label, data)


def _format(module: ModuleWriter) -> str:
    """``format(template, workspace, floats)``: the template with values for ``{0}``, in the
    workspace; ``floats`` is the function that writes those.
    """
    params = [("ptr", "template"), ("ptr", "workspace"), ("ptr", "floats")]
    fn = FunctionWriter(
        module, "stepforge_format", "ptr", params, linkage="internal", attributes="noinline"
    )
    workspace = aligned_up(fn, "%workspace")
    text = fn.offset(workspace, TEXT)
    limit = fn.offset(text, TEXT_BYTES - _LONGEST_NUMBER - 1)
    read, write = fn.alloca("ptr"), fn.alloca("ptr")
    fn.store("ptr", "%template", read)
    fn.store("ptr", text, write)
    head, body, brace, field, plain, done = (
        fn.label(hint) for hint in ("head", "body", "brace", "field", "plain", "done")
    )
    fn.branch(head)
    fn.start(head)
    source, into = fn.load("ptr", read), fn.load("ptr", write)
    letter = fn.load("i8", source)
    ended = fn.emit(f"icmp eq i8 {letter}, 0")
    full = fn.emit(f"icmp uge ptr {into}, {limit}")
    fn.branch_if(fn.emit(f"or i1 {ended}, {full}"), done, body)
    fn.start(body)
    fn.branch_if(fn.emit(f"icmp eq i8 {letter}, {_OPEN}"), brace, plain)
    fn.start(brace)  # {{ is a brace, anything else a field
    twice = fn.emit(f"icmp eq i8 {fn.load('i8', source, 1)}, {_OPEN}")
    fn.branch_if(twice, plain, field)
    fn.start(plain)
    used = fn.phi("i64", ("1", body), ("2", brace))
    fn.store("i8", letter, into)
    _go_on(fn, head, (read, fn.offset(source, used)), (write, fn.offset(into, 1)))
    fn.start(field)
    behind, after = _field(fn, source, into, fn.offset(workspace, VALUES + 8))
    _go_on(fn, head, (read, behind), (write, after))
    fn.start(done)
    fn.store("i8", "0", into)
    fn.do(f"ret ptr {text}")
    return fn.finish()


def _field(fn: FunctionWriter, source: str, into: str, values: str) -> tuple[str, str]:
    """Write the value that the field at ``source`` stands for; what is behind both."""
    which = fn.emit(f"zext i8 {fn.load('i8', source, 1)} to i64")
    place = fn.offset(values, fn.emit(f"sub i64 {which}, {_ZERO}"), "i64")
    value = fn.load("i64", place)
    is_float = fn.emit(f"icmp eq i8 {fn.load('i8', source, 2)}, {_COLON}")
    callee = fn.module.helper("stepforge_number", lambda: _number(fn.module))
    chosen = fn.emit(f"select i1 {is_float}, ptr %floats, ptr {callee}")
    width = fn.emit(f"select i1 {is_float}, i64 {_FLOAT}, i64 {_NUMBER}")
    return fn.offset(source, width), fn.call("ptr", chosen, ("i64", value), ("ptr", into))


def _go_on(fn: FunctionWriter, head: str, *moved: tuple[str, str]) -> None:
    """The next turn, with pointers moved on."""
    for cell, pointer in moved:
        fn.store("ptr", pointer, cell)
    fn.branch(head)


def _float(module: ModuleWriter, target: Target) -> str:
    """``float(bits, into)``: write a float as Python's ``{:g}`` does; what is behind it.

    Of what libc writes, all that is neither letter, digit nor sign is the locale's decimal point.
    """
    params = [("i64", "bits"), ("ptr", "into")]
    fn = FunctionWriter(module, "stepforge_float", "ptr", params, linkage="internal")
    given = fn.emit("bitcast i64 %bits to double")
    is_nan = fn.emit(f"fcmp uno double {given}, {given}")
    value = fn.emit(f"select i1 {is_nan}, double {_NOT_A_NUMBER}, double {given}")  # without sign
    buffer = fn.alloca("i8", _BUFFER)
    count = fn.emit(f"zext i32 {_printed(fn, target, buffer, value)} to i64")

    def letter(index: str, into: str, in_point: str) -> list[str]:
        found = fn.load("i8", fn.offset(buffer, index))
        alone = fn.emit(f"or i8 {found}, 32")  # lower case
        tests = [_between(fn, found, "0", "9"), _between(fn, alone, "a", "z"),
                 _between(fn, found, "+", "+"), _between(fn, found, "-", "-")]
        first, second = (fn.emit(f"or i1 {a}, {b}") for a, b in (tests[:2], tests[2:]))
        plain = fn.emit(f"or i1 {first}, {second}")
        fn.store("i8", fn.emit(f"select i1 {plain}, i8 {found}, i8 {_POINT}"), into)
        not_plain = fn.emit(f"xor i1 {plain}, true")
        again = fn.emit(f"and i1 {not_plain}, {in_point}")  # a decimal point of several bytes
        step = fn.emit(f"select i1 {again}, i64 0, i64 1")
        return [fn.offset(into, step), not_plain]

    end, _ = fn.loop(0, count, letter, carried=[("ptr", "%into"), ("i1", "false")])
    fn.do(f"ret ptr {end}")
    return fn.finish()


def _printed(fn: FunctionWriter, target: Target, buffer: str, value: str) -> str:
    """Let libc write a float into ``buffer``; how many characters that are.

    Windows' library has no ``snprintf``: it is a function of the headers around this one, which
    takes the arguments as an array.
    """
    into = ("ptr", buffer), ("i64", str(_BUFFER))
    form = "ptr", byte_data(fn.module, "form_of_floats", b"%g\0")
    if not target.windows:
        callee = fn.module.declare("snprintf", "i32", "ptr, i64, ptr, ...")
        return fn.call("i32", callee, *into, form, ("double", value),
                       variadic="(ptr, i64, ptr, ...)")
    values = fn.alloca("double")
    fn.store("double", value, values)
    params = "i64, ptr, i64, ptr, ptr, ptr"
    callee = fn.module.declare("__stdio_common_vsprintf", "i32", params)
    how, locale = ("i64", str(_COUNTS_AS_C)), ("ptr", "null")
    return fn.call("i32", callee, how, *into, form, locale, ("ptr", values))


def _between(fn: FunctionWriter, letter: str, low: str, high: str) -> str:
    """Whether a character is in a range."""
    moved = fn.emit(f"sub i8 {letter}, {ord(low)}")
    return fn.emit(f"icmp ule i8 {moved}, {ord(high) - ord(low)}")


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
