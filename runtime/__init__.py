"""Sessions and steps: what runs a graph."""
