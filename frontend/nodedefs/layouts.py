"""What nodes of images share: layouts of axes, kinds of padding, windows along the spatial axes.

Rules see images with channels last (``NHWC``); for the other layouts axes are moved there and back.
Sizes may be unknown: how many windows there are, and how much is missing before the image, are
expressions in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepforge.frontend.extract.messages import told
from stepforge.frontend.nodedefs import sizes
from stepforge.ir import dims
from stepforge.ir.core import Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.records import record

PADDINGS = ("SAME", "VALID", "EXPLICIT")
LAYOUTS = {4: ("NHWC", "NCHW"), 5: ("NDHWC", "NCDHW")}


@record(frozen=True)
class Layout:
    """Where a node's images have their channels; ``rank`` counts all axes."""

    rank: int
    first: bool

    @property
    def spatial(self) -> tuple[int, ...]:
        """The spatial axes."""
        return tuple(range(2, self.rank)) if self.first else tuple(range(1, self.rank - 1))

    @property
    def outer(self) -> tuple[int, int]:
        """The axis of images and that of channels."""
        return (0, 1) if self.first else (0, self.rank - 1)

    def picked(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Those of the spatial axes, of values for every axis."""
        return tuple(values[axis] for axis in self.spatial)

    def last(self, x: Any, images: Any) -> Any:
        """Images with their channels moved to the last axis."""
        if not self.first:
            return images
        return x.emit("transpose", images, perm=(0, *range(2, self.rank), 1))

    def back(self, x: Any, images: Any) -> Any:
        """Images with their channels moved from the last axis to where this layout has them."""
        if not self.first:
            return images
        return x.emit("transpose", images, perm=(0, self.rank - 1, *range(1, self.rank - 1)))

    def ordered(self, shape: Sequence[Dim]) -> tuple[Dim, ...]:
        """The sizes of images in this layout as those of images with channels last."""
        return (shape[0], *self.picked(shape), shape[self.outer[1]])


def layout_of(node: Any, rank: int) -> Layout:
    """The layout of a node. Raises: ShapeError for one that there is not."""
    given = node.attrs["data_format"]
    name = given.decode() if isinstance(given, bytes) else given
    if name not in LAYOUTS[rank]:
        allowed = ", ".join(f'"{known}"' for known in LAYOUTS[rank])
        raise ShapeError(
            f"Attr 'data_format' of '{node.type}' Op passed string '{name}' not in: {allowed}."
        )
    return Layout(rank, name[1] == "C")


def ranked(x: Any, operand: Any, rank: int) -> Any:
    """An operand of ``rank`` axes; one of unknown rank is taken to have them while building.

    Raises: ShapeError for another rank, UnknownRank when a step is compiled.
    """
    if operand.type.shape is None and sizes.building(x):
        return Value(x.open_type(operand.type.dtype, (None,) * rank))
    have = len(x.shape(operand))
    if have != rank:
        raise ShapeError(f"Shape must be rank {rank} but is rank {have}")
    return operand


def steps(node: Any, name: str, layout: Layout, least: str) -> tuple[int, ...]:
    """The values of an attribute (``strides``, ``ksize``) for the spatial axes.

    Raises: ShapeError where there is not one for each axis, or one is not positive.
    """
    values = node.attrs[name]
    if len(values) != layout.rank:
        label = {"strides": "stride"}.get(name, name)
        raise ShapeError(
            f"{node.type} requires the {label} attribute to contain {layout.rank} values, but got: "
            f"{len(values)}"
        )
    found = layout.picked(values)
    if min(found) < 1:
        raise ShapeError(least.format(min(found)))
    return found


def only_spatial(x: Any, node: Any, layout: Layout, name: str, message: str) -> None:
    """No values but 1 for images and channels, once a step is compiled. Raises: ShapeError."""
    values = node.attrs[name]
    if not sizes.building(x) and any(values[axis] != 1 for axis in layout.outer):
        raise ShapeError(message)


def padding_of(node: Any, layout: Layout) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The kind of padding of a node, and the explicit pairs for its spatial axes.

    Raises: ShapeError for a kind that there is not, or pairs that cannot be.
    """
    kind, pairs = node.attrs["padding"], node.attrs.get("explicit_paddings", [])
    known = PADDINGS if "explicit_paddings" in node.attrs else PADDINGS[:2]
    if kind not in known:
        allowed = ", ".join(f'"{name}"' for name in known)
        raise ShapeError(
            f"Attr 'padding' of '{node.type}' Op passed string '{kind}' not in: {allowed}."
        )
    if kind != "EXPLICIT":
        return kind, ()
    if len(pairs) != 2 * layout.rank:
        raise ShapeError(
            f"explicit_paddings attribute must contain {2 * layout.rank} values, but got: "
            f"{len(pairs)}"
        )
    if min(pairs) < 0:
        raise ShapeError("All elements of explicit_paddings must be nonnegative")
    if any(pairs[2 * axis] or pairs[2 * axis + 1] for axis in layout.outer):
        raise ShapeError(
            "Nonzero explicit padding in the batch or depth dimensions is not supported"
        )
    return kind, tuple((pairs[2 * axis], pairs[2 * axis + 1]) for axis in layout.spatial)


@record(frozen=True)
class Placed:
    """The attributes of an IR op on images: how many windows there are, and where they lie."""

    size: tuple[Dim, ...]
    low: tuple[Dim, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    def steps(self, **attrs: Any) -> dict[str, Any]:
        """The attributes but ``size``, and others."""
        return {"low": self.low, "strides": self.strides, **attrs}

    def attrs(self, **attrs: Any) -> dict[str, Any]:
        """The attributes of a convolution but ``size``, and others."""
        return self.steps(dilations=self.dilations, **attrs)


def placed(
    x: Any,
    padding: tuple[str, tuple[tuple[int, int], ...]],
    image: Sequence[Dim],
    window: Sequence[Dim],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> Placed:
    """The windows on images of size ``image``.

    Raises: ShapeError where one certainly reaches behind the image; else the step checks it.
    """
    kind, pairs = padding
    found: list[tuple[Dim, Dim]] = []
    for axis, (size, stride) in enumerate(zip(image, strides, strict=True)):
        reach = (window[axis] - 1) * dilations[axis] + 1
        if kind == "SAME":
            found.append(_same(size, reach, stride))
        else:
            low, high = pairs[axis] if pairs else (0, 0)
            found.append((_inside(x, size + (low + high), reach, stride), low))
    return Placed(tuple(n for n, _ in found), tuple(n for _, n in found), strides, dilations)


def _same(size: Dim, reach: Dim, stride: int) -> tuple[Dim, Dim]:
    """As many windows as strides cover the image; what is missing is shared out to both sides."""
    count = dims.floor_div(size + (stride - 1), stride)
    missing = dims.maximum((count - 1) * stride + reach - size, 0)
    return count, dims.floor_div(missing, 2)


def _inside(x: Any, size: Dim, reach: Dim, stride: int) -> Dim:
    """As many windows as fit into the image with its padding."""
    if isinstance(size, int) and isinstance(reach, int) and size < reach:
        if sizes.building(x):
            raise ShapeError(f"Negative dimension size caused by subtracting {reach} from {size}")
        if size < reach - stride:
            raise ShapeError(f"Computed output size would be negative: {size - reach + stride}")
    if not sizes.building(x):
        message = told("Computed output size would be negative: an image of {} and a window of {}",
                       size, reach)
        sizes.require_at_most(x, reach - stride, size, message)
    return sizes.at_least_0(dims.floor_div(size - reach, stride) + 1)
