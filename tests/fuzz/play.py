"""Plays random programs in stepforge and compares what they give with the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import stepforge as tf
from fuzz.programs import Feed, Node, Oracle, Program, Run, Wrong
from fuzz.shared import MARGIN, RUNS, Array, Finding, distance
from stepforge.ir.evaluate import same_value

REFUSED = (tf.errors.OpError, ValueError, TypeError)
State = dict[Node, Array]


class Player:
    """A program as a graph of stepforge, in a session of its own."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.names: dict[str, Any] = {"tf": tf, "np": np}
        self.refused: dict[Node, Exception] = {}
        self.callables: dict[Any, Any] = {}
        self.graph = tf.Graph()
        with self.graph.as_default():
            for node in program.nodes:
                self._make(node)
            self.session = tf.Session(graph=self.graph)
            self.session.run(tf.global_variables_initializer())

    def _make(self, node: Node) -> None:
        """Run the line of a node, unless one that it takes is refused."""
        taken = [*node.inputs, *node.control, *([node.variable] if node.variable else [])]
        for other in taken:
            if other in self.refused:
                self.refused[node] = self.refused[other]
                return
        try:
            exec(node.source, self.names)
        except ValueError as error:
            self.refused[node] = error

    def tensor(self, node: Node) -> Any:
        return self.names[node.name]

    def state(self) -> State:
        """What the variables hold."""
        variables = self.program.variables
        held = self.session.run([self.tensor(node) for node in variables])
        return dict(zip(variables, map(np.asarray, held), strict=True))

    def run(self, run: Run) -> list[Any]:
        """The values of the fetches. Raises: one of ``REFUSED``."""
        fetches = eval(run.fetched(), self.names)
        given = {self.tensor(node): feed.given() for node, feed in run.feeds.items()}
        if not run.callable:
            return run.leaves(self.session.run(fetches, given))
        key = (run.fetched(), *given)
        if key not in self.callables:
            self.callables[key] = self.session.make_callable(fetches, list(given))
        return run.leaves(self.callables[key](*given.values()))


def finding(program: Program, number: int, problem: str) -> Finding:
    """A finding with the program that shows it, up to the run that goes wrong."""
    shown = Program(program.nodes, program.runs[: number + 1])
    return Finding(f"run {number}: {problem}\n\n{shown.text()}")


def check_program(program: Program) -> None:
    """Every run gives what the oracle says and leaves what it says, or fails and leaves all as it
    was. Raises: Finding.
    """
    player = Player(program)
    state = player.state()
    for number, run in enumerate(program.runs):
        problem = _played(player, run, state)
        if problem:
            raise finding(program, number, problem)
        state = player.state()


def _played(player: Player, run: Run, state: State) -> str:
    """In words, what is wrong with a run; nothing where nothing is."""
    used = [*run.fetches, *run.feeds]
    refused = [player.refused[node] for node in used if node in player.refused]
    if refused and any(node.kind != "feed" for node in run.feeds):
        return ""  # what is fed may make it right, but there is nothing to run
    values, error = None, refused[0] if refused else None
    if not refused:
        try:
            values = player.run(run)
        except REFUSED as raised:
            error = raised
    try:
        expected = Oracle(player.program, run, state)
    except Wrong as wrong:
        if values is not None:
            return f"it gives {values}, but {wrong}"
        return _changed(player.state(), state)
    if values is None:
        return f"it raises {type(error).__name__}: {error}, instead of giving {expected.values}"
    return _compared(player, run, state, expected, values)


def _changed(after: State, before: State) -> str:
    for node, value in after.items():
        if not same_value(value, before[node]):
            return f"it fails and leaves {node.name} as {value}; it was {before[node]}"
    return ""


def _compared(player: Player, run: Run, state: State, expected: Oracle, values: list[Any]) -> str:
    after = player.state()
    program = player.program
    wanted = _labelled(run, expected)
    found = dict(zip(wanted, [*values, *[after[v] for v in program.variables]], strict=True))
    noisy: list[dict[str, Any]] = []
    for name, want in wanted.items():
        have = found[name]
        if want is None or have is None:
            if want is not have:
                return f"{name} is {have} instead of {want}"
            continue
        have = np.asarray(have)
        if have.dtype != want.dtype or have.shape != want.shape:
            return f"{name} is {have.dtype}{have.shape}, not {want.dtype}{want.shape}"
        if same_value(have, want):
            continue
        noisy = noisy or _noisy(program, run, state)
        spread = np.max([distance(other[name], want) for other in noisy], axis=0)
        if want.dtype.kind == "f" and np.any(spread):  # it rounds: noise may have missed a place
            spread = np.maximum(spread, np.spacing(np.abs(want)))
        with np.errstate(all="ignore"):
            if want.dtype.kind != "f" or np.any(distance(have, want) > MARGIN * spread):
                return f"{name} is {have} instead of {want}, allowed is {MARGIN * spread}"
    return ""


def _labelled(run: Run, oracle: Oracle) -> dict[str, Any]:
    """What an oracle says of the fetches and variables, by names for messages."""
    fetched = {
        f"fetch {i} ({n.name})": v
        for i, (n, v) in enumerate(zip(run.fetches, oracle.values, strict=True))
    }
    return {**fetched, **{f"variable {node.name}": v for node, v in oracle.state.items()}}


def _noisy(program: Program, run: Run, state: State) -> list[dict[str, Any]]:
    seeds = range(RUNS)
    oracles = [Oracle(program, run, state, noise=np.random.default_rng(s)) for s in seeds]
    return [_labelled(run, oracle) for oracle in oracles]


# ---- gradients ----------------------------------------------------------------------------------

STEP = 2.0**-14
DIRECTIONS = 2  # random ones, for each tensor
RELATIVE = 1e-7


def check_gradients(program: Program) -> None:
    """Gradients of the last node, with respect to every node behind it, are the slopes that
    differences show. Raises: Finding.
    """
    player = Player(program)
    target = program.nodes[-1]
    if target in player.refused:
        return
    sources = [node for node in program.needed([target], {}) if node is not target]
    tensors = [player.tensor(node) for node in (target, *sources)]
    with player.graph.as_default():
        gradients = tf.gradients(tensors[0], tensors[1:])
    connected = [i for i, gradient in enumerate(gradients) if gradient is not None]
    state = player.state()
    for number, run in enumerate(program.runs):
        given = {player.tensor(node): feed.value for node, feed in run.feeds.items()}
        try:
            center = Oracle(program, Run((*sources, target), "list", run.feeds), state)
        except Wrong:
            continue
        if not np.all(np.isfinite(center.values[-1])):  # the mean of nothing has no slope
            continue
        slopes: list[Any] = [0.0] * len(sources)
        fetched = player.session.run([gradients[i] for i in connected], given)
        for i, value in zip(connected, fetched, strict=True):
            slopes[i] = value
        for node, at, slope in zip(sources, center.values[:-1], slopes, strict=True):
            problem = _sloped(program, run, state, node, at, slope)
            if problem:
                text = f"tf.gradients({target.name}, {node.name}) {problem}"
                raise finding(program, number, text)


def _sloped(
    program: Program, run: Run, state: Mapping[Node, Array], node: Node, at: Array, slope: Any
) -> str:
    """In words, how a gradient differs from what differences say; nothing where it does not."""
    if np.shape(slope) not in ((), at.shape):
        return f"has the shape {np.shape(slope)}, not {at.shape}"

    def change(step: float, direction: Array) -> Any:
        totals = []
        for sign in (1, -1):
            feeds = {**run.feeds, node: Feed(at + sign * step * direction)}
            moved = Run(run.fetches, "single", feeds)
            oracle = Oracle(program, moved, state, widen=lambda v: np.asarray(v, np.longdouble))
            totals.append(np.sum(oracle.values[0]))
        return (totals[0] - totals[1]) / (2 * step)

    rng = np.random.default_rng(len(node.name))
    for _ in range(DIRECTIONS):
        direction = rng.choice([-1.0, 1.0], at.shape)
        coarse, fine = change(2 * STEP, direction), change(STEP, direction)
        want = fine + (fine - coarse) / 3  # their errors go with the square of the step
        have = np.sum(np.asarray(slope, np.longdouble) * direction)
        size = np.sum(np.abs(slope), dtype=np.longdouble) + np.abs(want)
        allowed = RELATIVE * (1 + size) + np.abs(fine - coarse)
        if not np.abs(have - want) <= allowed:
            return f"is {slope}; along {direction} it makes {have}, differences say {want}"
    return ""
