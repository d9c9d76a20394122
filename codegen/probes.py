"""Kernels that show what a machine can do at best, to judge the speed of a step by.

``triad`` streams memory: ``a = b + c * scale`` as often as it is told to, with stores that go
through the caches or past them. ``multiply_adds`` keeps the units for floats busy: enough
independent chains of fused multiply-adds, all in registers.
"""

from __future__ import annotations

from stepforge.codegen.target import Target

FUNCTIONS = ("triad", "triad_past_caches", "multiply_adds_f32", "multiply_adds_f64")
CHAINS = 12  # more than latency times units of any processor, fewer than its registers
_UNROLLED = 4  # vectors of a turn of ``triad``
_LLVM = {"f32": "float", "f64": "double"}


def lanes(dtype: str, target: Target) -> int:
    """Elements of a vector."""
    return target.vector_bits // (8 * item_bytes(dtype))


def item_bytes(dtype: str) -> int:
    """Bytes of an element of ``f32`` or ``f64``."""
    return int(dtype[1:]) // 8


def module_text(target: Target) -> str:
    """The module with all of ``FUNCTIONS``.

    ``triad*(a, b, c, n, times)`` take arrays of n floats, aligned to 64 bytes, n a multiple of 64.
    ``multiply_adds_*(out, turns)`` does ``2 * CHAINS * lanes`` flops a turn.
    """
    head = f'target triple = "{target.triple}"\n'
    body = (
        _triad("triad", target, "") + _triad("triad_past_caches", target, ", !nontemporal !0")
        + _multiply_adds("f32", target) + _multiply_adds("f64", target)
    )
    return f"{head}{body}attributes #0 = {{ nounwind {target.attributes} }}\n!0 = !{{i32 1}}\n"


def _triad(name: str, target: Target, hint: str) -> str:
    width = lanes("f32", target)
    vector = f"<{width} x float>"
    turn = "".join(_triad_vector(k, width, hint) for k in range(_UNROLLED))
    return f"""
define void @{name}(ptr noalias %a, ptr noalias %b, ptr noalias %c, i64 %n, i64 %times) #0 {{
entry:
  br label %outer
outer:
  %t = phi i64 [ 0, %entry ], [ %t1, %outer.end ]
  %scale = sitofp i64 %t to float
  %one = insertelement {vector} zeroinitializer, float %scale, i64 0
  %scales = shufflevector {vector} %one, {vector} poison, <{width} x i32> zeroinitializer
  br label %inner
inner:
  %i = phi i64 [ 0, %outer ], [ %i1, %inner ]
{turn}  %i1 = add i64 %i, {_UNROLLED * width}
  %more = icmp slt i64 %i1, %n
  br i1 %more, label %inner, label %outer.end
outer.end:
  %t1 = add i64 %t, 1
  %again = icmp slt i64 %t1, %times
  br i1 %again, label %outer, label %done
done:
  ret void
}}
"""


def _triad_vector(k: int, width: int, hint: str) -> str:
    vector = f"<{width} x float>"
    return f"""\
  %at{k} = add i64 %i, {k * width}
  %pb{k} = getelementptr float, ptr %b, i64 %at{k}
  %pc{k} = getelementptr float, ptr %c, i64 %at{k}
  %pa{k} = getelementptr float, ptr %a, i64 %at{k}
  %vb{k} = load {vector}, ptr %pb{k}, align {4 * width}
  %vc{k} = load {vector}, ptr %pc{k}, align {4 * width}
  %m{k} = fmul contract {vector} %vc{k}, %scales
  %s{k} = fadd contract {vector} %m{k}, %vb{k}
  store {vector} %s{k}, ptr %pa{k}, align {4 * width}{hint}
"""


def _multiply_adds(dtype: str, target: Target) -> str:
    element, width = _LLVM[dtype], lanes(dtype, target)
    vector = f"<{width} x {element}>"
    fma = f"@llvm.fma.v{width}{dtype}"
    chains = range(CHAINS)
    phis = "".join(
        f"  %c{k} = phi {vector} [ zeroinitializer, %entry ], [ %n{k}, %loop ]\n" for k in chains
    )
    steps = "".join(
        f"  %n{k} = call {vector} {fma}({vector} %c{k}, {vector} %xs, {vector} %ys)\n"
        for k in chains
    )
    sums = "".join(
        f"  %s{k + 1} = fadd {vector} %{f's{k}' if k else 'ys'}, %n{k}\n" for k in chains
    )
    return f"""
declare {vector} {fma}({vector}, {vector}, {vector})
define void @multiply_adds_{dtype}(ptr %out, i64 %turns) #0 {{
entry:
  %xs = load {vector}, ptr %out, align 64
  %there = getelementptr {element}, ptr %out, i64 {width}
  %ys = load {vector}, ptr %there, align 64
  br label %loop
loop:
  %t = phi i64 [ 0, %entry ], [ %t1, %loop ]
{phis}{steps}  %t1 = add i64 %t, 1
  %more = icmp slt i64 %t1, %turns
  br i1 %more, label %loop, label %done
done:
{sums}  store {vector} %s{CHAINS}, ptr %out, align 64
  ret void
}}
"""
