"""What code is made for: the processor at hand, or a portable baseline for objects that travel.

LLVM is loaded by the first function that needs it (it costs 62 ms), never by importing this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

# The baseline of each architecture: what its machines of the last ten years have.
# x86-64-v3 is spelled out, so that ``Target.has`` can answer for it too.
_X86_64_V3 = (
    "+64bit,+avx,+avx2,+bmi,+bmi2,+cmov,+crc32,+cx16,+cx8,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,"
    "+popcnt,+sahf,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave"
)
_BASELINES = {"x86_64": ("x86-64-v3", _X86_64_V3), "aarch64": ("generic", "+neon")}

# Bits of a vector register, by the first feature of the list that a processor has.
_VECTOR_BITS = (("avx512f", 512), ("avx", 256), ("sse2", 128), ("neon", 128))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What code on lanes may use of a processor, beside what LLVM knows how to do everywhere."""

    fma: bool = True  # multiply and add, rounded once
    avx512: bool = False  # ``lane_native``


COMMON = Capabilities()  # what every processor of the last ten years has


@dataclass(frozen=True, slots=True)
class Target:
    """A processor in LLVM's words: a triple, a CPU name and a feature string (``+avx2,-sse4a``)."""

    triple: str
    cpu: str
    features: str

    def has(self, feature: str) -> bool:
        """True where the feature string turns ``feature`` on."""
        return f"+{feature}" in self.features.split(",")

    @property
    def windows(self) -> bool:
        """True for Windows, whose libraries export what is marked."""
        return "windows" in self.triple

    @property
    def vector_bits(self) -> int:
        """Bits of the widest vector register; 128 where nothing is known."""
        return next((bits for feature, bits in _VECTOR_BITS if self.has(feature)), 128)

    @property
    def capabilities(self) -> Capabilities:
        """What ``LaneBuilder`` may use."""
        portable = not self.triple.startswith(("x86_64", "amd64", "i386", "i686"))
        return Capabilities(
            fma=portable or self.has("fma"), avx512=self.has("avx512f") and self.has("avx512vl")
        )

    @property
    def attributes(self) -> str:
        """The function attributes that make LLVM use this processor (for ``ModuleWriter``)."""
        width = f'"prefer-vector-width"="{self.vector_bits}"'
        return f'"target-cpu"="{self.cpu}" "target-features"="{self.features}" {width}'


@cache
def llvm() -> Any:
    """llvmlite's binding module, with the native target initialised."""
    import llvmlite.binding as binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


@cache
def host() -> Target:
    """The processor that this process runs on."""
    binding = llvm()
    features = binding.get_host_cpu_features().flatten()
    return Target(binding.get_process_triple(), binding.get_host_cpu_name(), features)


@cache
def baseline() -> Target:
    """A processor that every recent machine of this architecture can stand in for."""
    triple = llvm().get_process_triple()
    cpu, features = _BASELINES.get(triple.split("-")[0], ("", ""))
    return Target(triple, cpu, features)


@cache
def machine(target: Target, optimise: int, *, pic: bool = False) -> Any:
    """An LLVM target machine; ``optimise`` is 0 to 3.

    ``pic`` gives position-independent code for linkers; without it the code is for this process,
    where any address may lie anywhere.
    """
    options = (
        {"reloc": "pic", "codemodel": "small"} if pic else {"codemodel": "jitdefault", "jit": True}
    )
    return (
        llvm()
        .Target.from_triple(target.triple)
        .create_target_machine(cpu=target.cpu, features=target.features, opt=optimise, **options)
    )
