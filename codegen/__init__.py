"""Native code: LLVM IR, kernels, entries, and how they are linked."""
