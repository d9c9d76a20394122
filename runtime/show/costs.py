"""What each kernel of a step costs, as a table with a bar for its share of the time."""

from __future__ import annotations

from html import escape

from stepforge.ir.core import Function
from stepforge.ir.dims import Dim
from stepforge.passes.cost import KernelCost, kernels
from stepforge.runtime.show.markup import attribute
from stepforge.runtime.show.memory import likely, readable
from stepforge.runtime.show.origins import Origins
from stepforge.runtime.show.subject import LIKELY_SIZE


def costs_html(function: Function, origins: Origins) -> str:
    """The kernels of a fused function, in the order in which they run."""
    found = kernels(function)
    if not found:
        return '<p class="none">This step computes nothing.</p>'
    flops, moved, time = (
        sum(map(likely, each)) for each in zip(*map(_numbers, found), strict=True)
    )
    rows = [_row(k, likely(k.nanoseconds) / max(time, 1), origins) for k in found]
    return (
        f"<p>{len(found)} kernels: about <b>{readable(flops, 'flop')}</b>,"
        f" <b>{readable(moved)}</b> moved and <b>{_time(time)}</b> on one core, where unknown sizes"
        f" are {LIKELY_SIZE}. Point at a number for its formula.</p>"
        "<div class='scroll'><table><thead><tr><th>kernel</th><th>for</th>"
        "<th class='n'>flop</th><th class='n'>bytes</th><th class='n'>flop/byte</th>"
        f"<th class='n'>time</th><th>share</th></tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div>"
    )


def _numbers(kernel: KernelCost) -> tuple[Dim, Dim, Dim]:
    return kernel.flops, kernel.bytes, kernel.nanoseconds


def _time(nanoseconds: int) -> str:
    return readable(nanoseconds / 1e9, "s")


def _row(kernel: KernelCost, share: float, origins: Origins) -> str:
    flops, moved, time = (likely(size) for size in _numbers(kernel))
    site = kernel.op.site
    formulas = [f' title="{escape(str(size))}"' for size in _numbers(kernel)]
    inside = "+".join(
        dict.fromkeys(o.name for region in kernel.op.regions for o in region.ops[:-1])
    )
    body = f' <span class="t">{escape(inside)}</span>' if inside else ""
    return (
        f'<tr{attribute(*origins.of_operation(kernel.op))}><td><b>{escape(kernel.op.name)}</b>{body}</td>'
        f'<td class="what">{escape(site.node if site else "")}</td>'
        f'<td class="n"{formulas[0]}>{readable(flops, "")}</td>'
        f'<td class="n"{formulas[1]}>{readable(moved)}</td>'
        f'<td class="n">{flops / moved if moved else 0:.2g}</td>'
        f'<td class="n"{formulas[2]}>{_time(time)}</td>'
        f'<td><span class="bar"><span style="width:{share * 100:.1f}%"></span></span>'
        f"{share:.0%}</td></tr>"
    )
