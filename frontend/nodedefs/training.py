"""Node types that apply a gradient: one formula for each optimizer and its four types.

``ApplyAdagrad`` works on a whole reference variable, ``SparseApplyAdagrad`` on the rows at
``indices``, ``ResourceApplyAdagrad`` and ``ResourceSparseApplyAdagrad`` do the same for resource
variables. A formula takes what the node takes, as terms, and gives the new values of the variable
and its slots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepforge.frontend import dtypes
from stepforge.frontend.extract.extractor import InferenceExtractor
from stepforge.frontend.nodedefs.base import NodeDef, define_node
from stepforge.frontend.nodedefs.formula import Term
from stepforge.frontend.nodedefs.state import require_shape, variable_output
from stepforge.ir.core import Value
from stepforge.ir.errors import DTypeError
from stepforge.ir.records import record

Formula = Callable[..., tuple[Term, ...]]


@record(frozen=True)
class Update:
    """One optimizer. Of the node's ``inputs``, ``slots`` are the variable and its slots."""

    name: str
    inputs: str
    slots: int
    formula: Formula
    sparse: bool = True
    attrs: tuple[str, ...] = ()

    @property
    def gradient(self) -> str:
        """The input that is the gradient."""
        return "delta" if "delta" in self.inputs.split() else "grad"


# ---- formulas ------------------------------------------------------------------------------------
def _gradient_descent(var: Term, alpha: Term, delta: Term) -> tuple[Term, ...]:
    return (var - alpha * delta,)


def _momentum(
    var: Term, accum: Term, lr: Term, grad: Term, momentum: Term, use_nesterov: bool = False
) -> tuple[Term, ...]:
    accum = accum * momentum + grad
    step = grad * lr + accum * momentum * lr if use_nesterov else accum * lr
    return var - step, accum


def _adam(
    var: Term,
    m: Term,
    v: Term,
    beta1_power: Term,
    beta2_power: Term,
    lr: Term,
    beta1: Term,
    beta2: Term,
    epsilon: Term,
    grad: Term,
    use_nesterov: bool = False,
) -> tuple[Term, ...]:
    alpha = lr * (1.0 - beta2_power).fn("sqrt") / (1.0 - beta1_power)
    m = m + (grad - m) * (1.0 - beta1)
    v = v + (grad * grad - v) * (1.0 - beta2)
    momentum = grad * (1.0 - beta1) + beta1 * m if use_nesterov else m
    return var - momentum * alpha / (v.fn("sqrt") + epsilon), m, v


def _rms_prop(
    var: Term,
    ms: Term,
    mom: Term,
    lr: Term,
    rho: Term,
    momentum: Term,
    epsilon: Term,
    grad: Term,
) -> tuple[Term, ...]:
    ms = ms + (grad * grad - ms) * (1.0 - rho)
    mom = mom * momentum + grad * lr / (ms + epsilon).fn("sqrt")
    return var - mom, ms, mom


def _centered_rms_prop(
    var: Term,
    mg: Term,
    ms: Term,
    mom: Term,
    lr: Term,
    rho: Term,
    momentum: Term,
    epsilon: Term,
    grad: Term,
) -> tuple[Term, ...]:
    ms = ms + (grad * grad - ms) * (1.0 - rho)
    mg = mg + (grad - mg) * (1.0 - rho)
    mom = mom * momentum + grad * lr / (ms - mg * mg + epsilon).fn("sqrt")
    return var - mom, mg, ms, mom


def _adagrad(
    var: Term, accum: Term, lr: Term, grad: Term, update_slots: bool = True
) -> tuple[Term, ...]:
    accum = accum + grad * grad if update_slots else accum
    return var - grad * lr * accum.fn("rsqrt"), accum


def _adadelta(
    var: Term, accum: Term, accum_update: Term, lr: Term, rho: Term, epsilon: Term, grad: Term
) -> tuple[Term, ...]:
    accum = accum * rho + grad * grad * (1.0 - rho)
    step = (accum_update + epsilon).fn("sqrt") * (accum + epsilon).fn("rsqrt") * grad
    return var - step * lr, accum, accum_update * rho + step * step * (1.0 - rho)


def _ftrl_v2(
    var: Term,
    accum: Term,
    linear: Term,
    grad: Term,
    lr: Term,
    l1: Term,
    l2: Term,
    l2_shrinkage: Term | None,
    lr_power: Term,
) -> tuple[Term, ...]:
    shrunk = grad if l2_shrinkage is None else grad + 2.0 * l2_shrinkage * var
    new = accum + grad * grad
    root, old_root = _inverse_power(new, lr_power), _inverse_power(accum, lr_power)
    linear = linear + shrunk - (root - old_root) / lr * var
    quadratic = root / lr + 2.0 * l2
    moved = (linear.fn("sign") * l1 - linear) / quadratic
    return (linear.fn("abs") > l1).choose(moved, moved * 0.0), new, linear


def _inverse_power(x: Term, power: Term) -> Term:
    """``x ** -power``; the usual power of -1/2 is a square root."""
    known = x.x.static(power.operand)
    return x.fn("sqrt") if known is not None and float(known) == -0.5 else x.fn("pow", -power)


def _ftrl(
    var: Term,
    accum: Term,
    linear: Term,
    grad: Term,
    lr: Term,
    l1: Term,
    l2: Term,
    lr_power: Term,
) -> tuple[Term, ...]:
    return _ftrl_v2(var, accum, linear, grad, lr, l1, l2, None, lr_power)


def _shrunk(value: Term, l1: Term, l2: Term, rate: Term) -> Term:
    """The proximal step: towards 0 by ``rate * l1``, then scaled by what ``l2`` asks for."""
    size = (value.fn("abs") - rate * l1).fn("maximum", 0.0)
    return value.fn("sign") * size / (1.0 + rate * l2)


def _proximal_gradient_descent(
    var: Term, alpha: Term, l1: Term, l2: Term, delta: Term
) -> tuple[Term, ...]:
    return (_shrunk(var - alpha * delta, l1, l2, alpha),)


def _proximal_adagrad(
    var: Term, accum: Term, lr: Term, l1: Term, l2: Term, grad: Term
) -> tuple[Term, ...]:
    accum = accum + grad * grad
    rate = lr * accum.fn("rsqrt")
    return _shrunk(var - grad * rate, l1, l2, rate), accum


UPDATES = (
    Update("GradientDescent", "var alpha delta", 1, _gradient_descent, sparse=False),
    Update("Momentum", "var accum lr grad momentum", 2, _momentum, attrs=("use_nesterov",)),
    Update(
        "Adam",
        "var m v beta1_power beta2_power lr beta1 beta2 epsilon grad",
        3,
        _adam,
        sparse=False,
        attrs=("use_nesterov",),
    ),
    Update("RMSProp", "var ms mom lr rho momentum epsilon grad", 3, _rms_prop),
    Update("CenteredRMSProp", "var mg ms mom lr rho momentum epsilon grad", 4, _centered_rms_prop),
    Update("Adagrad", "var accum lr grad", 2, _adagrad, attrs=("update_slots",)),
    Update("Adadelta", "var accum accum_update lr rho epsilon grad", 3, _adadelta),
    Update("Ftrl", "var accum linear grad lr l1 l2 lr_power", 3, _ftrl),
    Update("FtrlV2", "var accum linear grad lr l1 l2 l2_shrinkage lr_power", 3, _ftrl_v2),
    Update("ProximalGradientDescent", "var alpha l1 l2 delta", 1, _proximal_gradient_descent),
    Update("ProximalAdagrad", "var accum lr l1 l2 grad", 2, _proximal_adagrad),
)
_ATTRS: dict[str, Any] = {"use_nesterov": False, "update_slots": True}


# ---- node types ----------------------------------------------------------------------------------
class Apply(NodeDef):
    """What all of these nodes share."""

    no_gradient = True
    stateful = True
    update: Update
    is_sparse = False

    def extract(self, x: Any, node: Any, *operands: Any) -> Any:
        """Read the variable and its slots, apply the formula, write them, the variable last."""
        update = self.update
        targets = [variable_output(tensor) for tensor in node.inputs[: update.slots]]
        old = [x.read(target) for target in targets]
        named = dict(zip(self.inputs, [*old, *operands[update.slots :]], strict=True))
        indices = named.pop("indices", None)
        if isinstance(x, InferenceExtractor):
            self._check_dtypes(node)
        named[self._gradient] = self._fitted(x, named[self._gradient], old[0], indices)
        if isinstance(x, InferenceExtractor):
            return Value(x.type(old[0])) if self.ref_outputs else None
        new = self._new_values(x, node, named, old, indices)
        for target, value in reversed(list(zip(targets[1:], new[1:], strict=True))):
            x.write(target, value)
        written = x.write(targets[0], new[0])
        return written if self.ref_outputs else None

    @property
    def _gradient(self) -> str:
        return "grad" if self.is_sparse else self.update.gradient

    def _check_dtypes(self, node: Any) -> None:
        wanted = dtypes.from_ir(variable_output(node.inputs[0]).op.attrs["dtype"])
        for name, tensor in zip(self.inputs, node.inputs, strict=True):
            have = tensor.dtype.base_dtype
            if name != "indices" and have not in (wanted, dtypes.resource):
                raise DTypeError(
                    f"Input '{name}' of '{node.type}' Op has type {have.name} that does not match "
                    f"type {wanted.name} of argument 'var'."
                )

    def _fitted(self, x: Any, gradient: Any, var: Any, indices: Any) -> Any:
        """The gradient, which has the shape of the variable or of its rows at ``indices``."""
        wanted = x.type(var).shape
        if indices is not None and wanted is not None:
            wanted = (*x.shape(indices), *wanted[1:])
        return require_shape(x, gradient, wanted)

    def _new_values(
        self, x: Any, node: Any, named: dict[str, Any], old: list[Any], indices: Any
    ) -> list[Any]:
        update = self.update
        if indices is not None:
            x.emit("check_bounds", indices, limit=x.shape(old[0])[0], message="indices")
            for name, value in zip(self.inputs, old, strict=False):
                named[name] = x.emit("gather", value, indices)
        settings = {name: node.attrs[name] for name in update.attrs}
        found = update.formula(*[Term(x, value) for value in named.values()], **settings)
        new = [term.operand for term in found]
        if indices is None:
            return new
        return [
            x.emit("scatter_update", value, indices, rows, kind="update")
            for value, rows in zip(old, new, strict=True)
        ]


def _inputs(update: Update, sparse: bool) -> tuple[str, ...]:
    names = update.inputs.split()
    if sparse:
        place = names.index(update.gradient)
        names[place : place + 1] = ["grad", "indices"]
    return tuple(names)


def _define_updates() -> None:
    for update in UPDATES:
        for sparse in (False, True) if update.sparse else (False,):
            for resource in (False, True):
                inputs = _inputs(update, sparse)
                attrs = {name: _ATTRS[name] for name in update.attrs}
                body: dict[str, Any] = {
                    "__doc__": f"One step of {update.name}; see its formula.",
                    "__module__": __name__,
                    "update": update,
                    "is_sparse": sparse,
                    "inputs": inputs,
                    "ref_inputs": inputs[: update.slots],
                    "ref_outputs": not resource,
                    "outputs": 0 if resource else 1,
                    "attrs": {"use_locking": False, **attrs},
                }
                parts = ("Resource" if resource else "", "Sparse" if sparse else "", "Apply")
                define_node(type("".join(parts) + update.name, (Apply,), body))


_define_updates()
