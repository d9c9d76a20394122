"""``tf.graph_util``: parts of GraphDefs, freezing."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "frontend.graphdef.freezing": (
            "convert_variables_to_constants extract_sub_graph remove_training_nodes "
            "tensor_shape_from_node_def_name"
        ),
        "frontend.graphdef.importing": "import_graph_def",
    },
)
