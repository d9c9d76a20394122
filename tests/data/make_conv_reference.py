"""Records what TensorFlow makes of convolutions and pooling: nodes, values, gradients of two
orders.

Run it where TensorFlow is installed; it writes ``conv_reference.json`` beside itself, in the format
of ``make_math_reference.py``. TensorFlow's plain kernels lack channels first, dilation and groups
in places, those of oneDNN empty batches: so each half of the cases has a process of its own.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import warnings

import conv_cases
import math_cases
from make_math_reference import record

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


def needs_onednn(item: math_cases.Case) -> bool:
    """Whether TensorFlow's plain kernels cannot do it."""
    grouped = item.inputs.get("w") == "f32[3,3,2,6]"
    return grouped or "'NC" in item.code or "dilations=[" in item.code


def record_half() -> None:
    """Print the cases for the kernels that the environment chooses, one a line."""
    warnings.filterwarnings("ignore")
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    tf.get_logger().setLevel("ERROR")
    for group in conv_cases.GROUPS:
        for number, item in enumerate(group()):
            if needs_onednn(item) == (os.environ[ONEDNN] == "1"):
                print(item.code, file=sys.stderr)
                entry = {"group": group.__name__, **record(tf, item)}
                print(json.dumps([group.__name__, number, entry]))


def main() -> None:
    if ONEDNN in os.environ:
        record_half()
        return
    found = {}
    for flag in "01":
        done = subprocess.run(
            [sys.executable, __file__], env={**os.environ, ONEDNN: flag}, check=True,
            stdout=subprocess.PIPE, text=True,
        )
        for line in done.stdout.splitlines():
            group, number, entry = json.loads(line)
            found[group, number] = entry
    order = [group.__name__ for group in conv_cases.GROUPS]
    entries = [found[key] for key in sorted(found, key=lambda k: (order.index(k[0]), k[1]))]
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    target = pathlib.Path(__file__).with_name("conv_reference.json")
    target.write_text(f"[\n{lines}\n]\n")
    print(len(entries), "cases,", target.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
