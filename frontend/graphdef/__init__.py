"""Graphs as data: TensorFlow's GraphDef, written and read without TensorFlow."""
