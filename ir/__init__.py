"""The intermediate representation: types, values, ops, text, and the reference evaluator."""
