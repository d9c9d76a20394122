"""``tf.io``: files."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {"frontend.graphdef.exporting": "write_graph"},
)
