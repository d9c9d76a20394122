import os
from stepforge.passes.lower_cuts import Cut
from stepforge.passes.lower_regions import merged_axes
def row_sums(ops, cuts):
    found=set()
    if os.environ.get("BYROWS")=="0": return found
    for op in ops:
        if op.name!="reduce": continue
        shape, axes = op.attr("shape"), op.attr("axes")
        operands = [Cut.of(cuts[o], cuts[o].operands[0]) if o in cuts else o for o in op.operands]
        groups = merged_axes(shape, operands, axes)
        if len(groups)>1 and groups[0][0] in axes and not groups[-1][0] in axes:
            found.add(op)
    return found
