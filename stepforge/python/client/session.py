"""``tensorflow.python.client.session``: sessions, and how they learn to fetch and feed types."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "runtime.session": "BaseSession InteractiveSession Session",
        "runtime.registered": "register_session_run_conversion_functions",
    },
)
