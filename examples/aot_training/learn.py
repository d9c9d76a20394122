"""``main.c`` in Python: learns from a stream with the compiled steps, through cffi.

Neither stepforge nor LLVM is needed, but NumPy, cffi, and what ``build.py`` wrote: ``online.py``
with its library, and ``stream.bin``.  The numbers are those of the C program, to the last bit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import online

BATCH = 32
ROW = np.dtype([("pixels", np.float32, 64), ("label", np.int32)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stream", type=Path, nargs="?", default=Path("stream.bin"))
    parser.add_argument("--rate", type=float, help="another learning rate to begin with")
    parser.add_argument("--checkpoint", type=Path, help="where to keep the state in the end")
    options = parser.parse_args()
    state = online.library.state.copy()
    if options.rate is not None:
        state["rate"] = options.rate
    rows = np.fromfile(options.stream, ROW)
    seen = right = 0
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        loss, correct = online.learn(batch["pixels"], batch["label"], state=state)
        seen, right = seen + len(batch), right + int(correct)
        if start // BATCH % 20 == 19:
            print(f"{seen:5d} rows: loss {loss:.4f}, {100 * right / seen:.2f}% right so far")
    print(f"learned with a rate that fell to {state['rate']:.6f}")
    if options.checkpoint is not None:
        state.memory.tofile(options.checkpoint)


if __name__ == "__main__":
    main()
