"""From graph nodes to the IR: ``extractor`` (what node rules talk to), ``symbolic`` (shape values),
``program`` (whole functions)."""
