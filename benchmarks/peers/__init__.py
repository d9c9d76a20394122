"""What stepforge is measured against, one module to a peer: functions written by hand for each.

Each module has ``step(kind, arrays)``, which gives what to call for a kind of case, or None where
that cannot be made.  Importing a module fails where its peer is not installed, or is no module of
this interpreter at all.
"""
