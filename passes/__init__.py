"""Passes: functions of the IR to functions of the IR."""
