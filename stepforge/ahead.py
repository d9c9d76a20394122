"""``tf.ahead``: steps compiled ahead of time, to objects that need no Python."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "runtime.ahead": "Compiled",
        "runtime.ahead_steps": "Feed Step compile=compile_ahead compile_ir",
        "runtime.ahead_files": "c_header write",
        "runtime.ahead_problems": "CannotCompileAhead",
        "codegen.target": "Target target=chosen",
    },
)
