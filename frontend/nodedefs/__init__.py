"""The node types, one declaration each, by theme."""
