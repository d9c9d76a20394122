"""Writes ``graphdefs/``: the programs of ``tests/graphdefs/programs.py`` as TensorFlow writes and
computes them. Run it with TensorFlow and stepforge installed, as ``make parity`` has them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "graphdefs"))


def main() -> None:
    from parity import STATEFUL, write
    from programs import PROGRAMS

    folder = HERE / "graphdefs"
    folder.mkdir(exist_ok=True)
    values = {}
    for name, program in PROGRAMS.items():
        written = write(tf, program, frozen=name not in STATEFUL)
        (folder / f"{name}.pb").write_bytes(written.graph)
        for i, value in enumerate(written.values):
            array = np.asarray(value)
            values[f"{name}/{i}"] = array.astype(bytes) if array.dtype == object else array
    np.savez_compressed(folder / "values.npz", **values)


if __name__ == "__main__":
    main()
