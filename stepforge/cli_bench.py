"""``stepforge bench``: how fast a step is, and what it is that keeps it from being faster.

A step is judged by figures of the machine that are measured in the same run: what memory gives for
as many bytes as the step moves, how many flops the processor does, how long an empty step takes
that is called with the same arguments. What of these three takes longest is what bounds the step;
how much of its time that explains says how much there is to gain.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stepforge import cli_feeds, cli_inputs, cli_steps
from stepforge.cli_files import CommandError
from stepforge.cli_inputs import INPUT_HELP
from stepforge.cli_parsers import command_parser
from stepforge.cli_progress import progress
from stepforge.cli_steps import Argument, CalledStep
from stepforge.ir import dims
from stepforge.ir.records import record
from stepforge.ir.types import NUMERIC, numpy_dtype
from stepforge.passes.traffic import Traffic, traffic_of_loops, traffic_of_tensors
from stepforge.runtime import machine, threads, timing
from stepforge.runtime.ahead_steps import parse_feed
from stepforge.runtime.timing import Timing
from stepforge.runtime.variant import Variant

_MORE = f"""\
{INPUT_HELP}
{cli_feeds.FEED_HELP}
What has no value is random: floats from 0 to 1, integers 0 and 1. Sizes that are not known need
--size, under the names that types show (the first axis of x is x_0) or that --feed gives them:

examples:
  stepforge bench model.py --fetch loss --size x_0=256
  stepforge bench model.py:train --feed 'images:f32[n,784]' --feed 'labels:i64[n]' --size n=64
  stepforge bench frozen.pb:logits --feed images=batch.npy --json
  stepforge bench model.sf --restore weights.npz --size n=1000

bytes are what the kernels of the step read and write after fusion, each nest of loops every buffer
once; flops are operations on floats, two for each product in a matrix product, eight for exp and
its like. "bound by" names what takes longest at the speed of this machine: memory (a triad over as
many bytes), compute (multiply-adds in registers) or the call (an empty step, same arguments).
"""


@record(frozen=True)
class Machine:
    """Figures of the machine: bytes and flops per second, the seconds of an empty call."""

    threads: int
    bandwidth: float
    flops: dict[str, float]
    call: float


@record(frozen=True)
class Measured:
    """A step's figures; ``arguments`` are its feeds as they were."""

    name: str
    arguments: tuple[str, ...]
    native: bool
    timing: Timing
    traffic: Traffic
    machine: Machine

    @property
    def least(self) -> dict[str, float]:
        """The seconds that each bound alone would take."""
        flops = self.traffic.flops.items()
        return {
            "call overhead": self.machine.call,
            "memory": self.traffic.bytes / self.machine.bandwidth,
            "compute": sum(count / self.machine.flops[_kind(dtype)] for dtype, count in flops),
        }

    @property
    def bound(self) -> str:
        """What takes longest of these."""
        return max(self.least, key=lambda what: self.least[what])


def add_commands(commands: Any) -> None:
    """Add ``bench`` to the commands."""
    parser = command_parser(commands, "bench", "time a step, and say what bounds it", _MORE)
    cli_inputs.add_input(parser)
    parser.add_argument("--fetch", action="append", default=[], metavar="TENSOR",
                        help="a result, or an operation to run (once for each)")
    parser.add_argument("--feed", action="append", default=[], metavar="TENSOR[=VALUE]",
                        help="a value, or a type as in x:f32[n,64] of which to make one")
    parser.add_argument("--size", action="append", default=[], metavar="NAME=VALUE",
                        help="a size that is not known (once for each)")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long to call it (1)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(command=bench_command)


def bench_command(options: argparse.Namespace) -> None:
    """Time the step and print its figures."""
    sizes = dict(_size(text) for text in options.size)
    typed = [text for text in options.feed if "=" not in text and not text.endswith(".npz")]
    given_feeds = cli_feeds.parse(text for text in options.feed if text not in typed)
    given = cli_inputs.read(options)
    feeds = {cli_steps.known_name(given, name): fed for name, fed in given_feeds.items()}
    wanted = {cli_steps.known_name(given, feed.tensor): feed for feed in map(parse_feed, typed)}
    options.feed = [*wanted, *(name for name in feeds if name not in wanted)]
    if isinstance(given, cli_inputs.GraphInput):
        options.feed = _all_feeds(given, options)
    with progress("compiling"):
        step = cli_steps.make_step(given, options)
        _check_names(step, (*feeds, *wanted))
        arguments = [_typed(argument, wanted.get(argument.name)) for argument in step.arguments]
        values = _values(arguments, feeds, sizes)
        step.call(*values)
    with progress("measuring"):
        measured = _measure(step, arguments, values, options.seconds)
    print(json.dumps(_figures(measured), indent=2) if options.json else _table(measured))


def _all_feeds(given: cli_inputs.GraphInput, options: argparse.Namespace) -> list[str]:
    """The tensors that --feed names, and the placeholders that are needed beside them."""
    fetches = cli_steps.fetches_of(given, options.fetch)
    named = cli_steps.feeds_of(given, fetches, options.feed) if options.feed else []
    needed = cli_steps.feeds_of(given, fetches, (), beside=named)
    return [tensor.name for tensor in (*named, *needed)]


def _check_names(step: CalledStep, names: Iterable[str]) -> None:
    known = [argument.name for argument in step.arguments]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CommandError(f"--feed {unknown[0]}: the step takes {', '.join(known) or 'nothing'}")


def _size(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if not name or not value.isdecimal():
        raise CommandError(f"a size is written NAME=VALUE, as in n=64, not {text!r}")
    return name, int(value)


# ---- arguments -----------------------------------------------------------------------------------


def _typed(argument: Argument, feed: Any) -> Argument:
    """An argument with the type that --feed declares for it."""
    if feed is None or feed.shape is None:
        return argument
    if feed.dtype not in (None, argument.type.dtype):
        raise CommandError(f"{argument.name} is {argument.type}, not {feed.dtype}")
    unknown = tuple(dims.named(f"{argument.name}_{axis}") for axis in range(len(feed.shape)))
    known = unknown if argument.type.shape is None else argument.type.dims
    if len(known) != len(feed.shape):
        raise CommandError(f"{argument.name} is {argument.type}, not of rank {len(feed.shape)}")
    shape = tuple(
        have if size is None else dims.named(size) if isinstance(size, str) else size
        for have, size in zip(known, feed.shape, strict=True)
    )
    return Argument(argument.name, argument.type.with_shape(shape), argument.tensor)


def _values(
    arguments: Sequence[Argument], feeds: Mapping[str, cli_feeds.Fed], sizes: Mapping[str, int]
) -> list[Any]:
    """A value for each argument, given or random. Raises: CommandError for sizes that are missing.
    """
    made = [argument for argument in arguments if argument.name not in feeds]
    unknown = {a.name: dims_of(a) - sizes.keys() for a in made}
    missing = [name for names in unknown.values() for name in sorted(names)]
    ranks = [a.name for a in made if a.type.shape is None]
    if missing or ranks:
        types = "\n".join(f"  {a.name}: {a.type}" for a in made)
        options = [f"--size {name}=..." for name in dict.fromkeys(missing)]
        options += [f"--feed '{name}:{a.type.dtype}[...]'" for name in ranks for a in made
                    if a.name == name]
        raise CommandError(f"sizes are missing: {' '.join(options)}\n{types}")
    surplus = sizes.keys() - {name for a in made for name in dims_of(a)}
    if surplus:
        raise CommandError(f"--size {min(surplus)}: there is no size of that name")
    random = np.random.default_rng(0)
    return [
        cli_feeds.fitted(a, feeds[a.name]) if a.name in feeds else _random(random, a, sizes)
        for a in arguments
    ]


def dims_of(argument: Argument) -> set[str]:
    """The names of the sizes of an argument."""
    return {name for size in argument.type.shape or () for name in dims.names(size)}


def _random(random: Any, argument: Argument, sizes: Mapping[str, int]) -> Any:
    shape = [dims.evaluate(size, sizes) for size in argument.type.dims]
    dtype = argument.type.dtype
    if dtype not in NUMERIC:
        return np.full(shape, b"text", object)
    kind = NUMERIC[dtype][1]
    if kind not in "fc":
        return random.integers(0, 2, shape).astype(numpy_dtype(dtype))
    return random.random(shape, np.float32).astype(numpy_dtype(dtype))


# ---- figures -------------------------------------------------------------------------------------


def _measure(
    step: CalledStep, arguments: Sequence[Argument], values: Sequence[Any], seconds: float
) -> Measured:
    timed = timing.time_calls(step.call, values, seconds)
    variant = step.call.program.variants[0]
    arrays = [np.asarray(value) for value in values]
    traffic = _traffic(variant, _sizes(step, variant, arrays))
    number = threads.available() if traffic.shared else 1
    empty = timing.time_calls(timing.empty_step(variant.signature.feeds), values, seconds / 10)
    figures = Machine(
        number,
        machine.bandwidth(traffic.bytes, number),
        {kind: machine.flops(kind, number) for kind in ("f32", "f64")},
        empty.seconds["p50"],
    )
    shown = tuple(f"{a.name}: {a.type.dtype}{list(array.shape) if array.ndim else ''}"
                  for a, array in zip(arguments, arrays, strict=True))
    return Measured(variant.signature.name, shown, variant.native, timed, traffic, figures)


def _sizes(step: CalledStep, variant: Variant, arrays: Sequence[Any]) -> dict[str, int]:
    """The sizes that the step was called with, by the names in its code."""
    signature = variant.signature
    pairs = [(f.type, a.shape) for f, a in zip(signature.feeds, arrays, strict=True)]
    for slot in signature.slots:
        shape = step.store.shape(variant.extraction.variables[slot.name])
        pairs.append((slot.type, shape or ()))
    found: dict[str, int] = {}
    for type_, shape in pairs:
        for want, have in zip(type_.shape or (), shape, strict=False):
            name = dims.as_name(want)
            if name is not None:
                found[name] = have
    return found


def _traffic(variant: Variant, sizes: Mapping[str, int]) -> Traffic:
    loops = variant.stage("loops")
    if loops:
        return traffic_of_loops(loops, sizes)
    return traffic_of_tensors(variant.stage("tensor"), sizes)


def _kind(dtype: str) -> str:
    """The dtype whose peak a dtype is judged by: halves are computed as f32."""
    return "f64" if dtype in ("f64", "c128") else "f32"


def _figures(measured: Measured) -> dict[str, Any]:
    """Everything, in seconds, bytes and flops."""
    traffic, best = measured.traffic, measured.timing.seconds["p50"]
    return {
        "step": measured.name,
        "arguments": list(measured.arguments),
        "native": measured.native,
        "calls": measured.timing.calls,
        "seconds": measured.timing.seconds,
        "bytes_read": traffic.read,
        "bytes_written": traffic.written,
        "flops": traffic.flops,
        "host_calls": traffic.host_calls,
        "complete": traffic.complete,
        "bytes_per_second": traffic.bytes / best,
        "flops_per_second": traffic.all_flops / best,
        "machine": {
            "threads": measured.machine.threads,
            "bytes_per_second": measured.machine.bandwidth,
            "flops_per_second": measured.machine.flops,
            "call_seconds": measured.machine.call,
        },
        "least_seconds": measured.least,
        "bound": measured.bound,
    }


def _table(measured: Measured) -> str:
    traffic, here, seconds = measured.traffic, measured.machine, measured.timing.seconds
    best, bound = seconds["p50"], measured.bound
    least = measured.least[bound]
    peak = max((here.flops[_kind(dtype)] for dtype in traffic.flops), default=here.flops["f32"])
    times = "  ".join(f"{name} {_time(value)}" for name, value in seconds.items())
    rows = [
        ("step", f"{measured.name}({', '.join(measured.arguments)})"),
        ("call", f"{times}  ({measured.timing.calls} calls)"),
        ("bytes", f"{_amount(traffic.read)}B read, {_amount(traffic.written)}B written:"
         f" {_amount(traffic.bytes / best)}B/s of {_amount(here.bandwidth)}B/s"),
        ("flops", f"{_amount(traffic.all_flops).strip()}:"
         f" {_amount(traffic.all_flops / best)}FLOP/s of {_amount(peak)}FLOP/s"),
        ("overhead", f"{_time(here.call)} for an empty step"),
        ("bound by", f"{bound}: at least {_time(least)}, {least / best:.0%} of a call"),
        ("machine", f"{here.threads} thread{'s' if here.threads > 1 else ''}, measured just now"),
    ]
    if not measured.native:
        rows.append(("note", "it is run by the evaluator, not by native code"))
    if traffic.host_calls:
        rows.append(("note", f"{traffic.host_calls} operations are done by Python or NumPy"))
    if not traffic.complete:
        rows.append(("note", "what depends on sizes in the data is not counted"))
    return "\n".join(f"{name:<9} {text}" for name, text in rows)


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _amount(number: float) -> str:
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number:.3g} "
