"""What code is made for: the processor at hand, or a portable baseline for objects that travel.

LLVM is loaded by the first function that needs it (it costs 62 ms), never by importing this file.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from typing import Any

from stepforge.ir.records import record

# The levels of x86-64 are spelled out, so that ``Target.has`` can answer for them too.
_X86_64 = "+64bit,+cmov,+cx8,+fxsr,+mmx,+sse,+sse2"
_X86_64_V2 = f"{_X86_64},+crc32,+cx16,+popcnt,+sahf,+sse3,+sse4.1,+sse4.2,+ssse3"
_X86_64_V3 = f"{_X86_64_V2},+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave"
_X86_64_V4 = f"{_X86_64_V3},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
_FEATURES = {
    "x86-64": _X86_64, "x86-64-v2": _X86_64_V2, "x86-64-v3": _X86_64_V3, "x86-64-v4": _X86_64_V4,
}  # fmt: skip

# The baseline of each architecture: what its machines of the last ten years have.
_BASELINES = {
    "x86_64": ("x86-64-v3", _X86_64_V3), "aarch64": ("generic", "+neon"),
    "arm64": ("generic", "+neon"),
}  # fmt: skip

# Systems as the second word of a triple: the vendor was left out, whom LLVM wants named.
_SYSTEMS = ("linux", "windows", "darwin", "macos", "freebsd", "netbsd", "openbsd")

# What another process asks LLVM, which tells of names that it does not know on the error stream
# only, or ends the process.
_ASK = """
import sys
import llvmlite.binding as binding
binding.initialize_all_targets()
triple, cpu, features = sys.argv[1:]
binding.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
"""

# Bits of a vector register, by the first feature of the list that a processor has.
_VECTOR_BITS = (("avx512f", 512), ("avx", 256), ("sse2", 128), ("neon", 128))


@record(frozen=True, slots=True)
class Capabilities:
    """What code on lanes may use of a processor, beside what LLVM knows how to do everywhere."""

    fma: bool = True  # multiply and add, rounded once
    avx512: bool = False  # ``lane_native``


COMMON = Capabilities()  # what every processor of the last ten years has


@record(frozen=True, slots=True)
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
def _all_targets() -> Any:
    """The same with every target that LLVM was built for."""
    binding = llvm()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
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
    return chosen()


def chosen(triple: str = "", cpu: str = "", features: str = "") -> Target:
    """The target that a user asks for; what is left open is the baseline of the architecture.

    ``cpu`` may be "native", a level of x86-64, or a name of LLVM's: of such a one only
    ``features`` tell what it has. Raises: ValueError for a triple that LLVM cannot compile for,
    processors and features that it does not know.
    """
    triple = _with_vendor(triple) or llvm().get_process_triple()
    architecture = triple.split("-")[0]
    levels = _FEATURES if architecture == "x86_64" else {}
    name, known = _BASELINES.get(architecture, ("", ""))
    if cpu == "native":
        if architecture != host().triple.split("-")[0]:
            raise ValueError(f"the processor here is no {architecture}")
        name, known = host().cpu, host().features
    elif cpu:
        name, known = cpu, levels.get(cpu, "")
    made = Target(triple, name, _joined(known, features))
    if features or cpu not in ("", "native", *levels):
        _check_names(made)
    try:
        machine(made, 0)
    except RuntimeError as error:
        raise ValueError(f"LLVM cannot compile for {triple}: {error}") from error
    return made


def _with_vendor(triple: str) -> str:
    """A triple in full: ``x86_64-windows-msvc`` is ``x86_64-unknown-windows-msvc``."""
    machine_, _, rest = triple.partition("-")
    return f"{machine_}-unknown-{rest}" if rest.startswith(_SYSTEMS) else triple


@cache
def _check_names(target: Target) -> None:
    """Raises: ValueError for a processor and features that LLVM does not know."""
    import subprocess

    words = [sys.executable, "-c", _ASK, target.triple, target.cpu, target.features]
    said = subprocess.run(words, capture_output=True, text=True, check=False).stderr
    unknown = dict.fromkeys(re.findall(r"'([^']*)' is not a recognized", said))
    if unknown:
        machine_ = target.triple.split("-")[0]
        raise ValueError(f"LLVM knows no {', '.join(unknown)} for {machine_}")


def _joined(*features: str) -> str:
    """Feature strings as one, in which a feature stands once: what is said last holds."""
    words = [word.strip() for part in features for word in part.split(",") if word.strip()]
    signs = {word[1:]: word[0] for word in words}
    if not set(signs.values()) <= {"+", "-"}:
        raise ValueError(f"features are written +name or -name, not {features[-1]!r}")
    return ",".join(sign + name for name, sign in signs.items())


@cache
def machine(target: Target, optimise: int, *, pic: bool = False) -> Any:
    """An LLVM target machine; ``optimise`` is 0 to 3.

    ``pic`` gives position-independent code for linkers; without it the code is for this process,
    where any address may lie anywhere.
    """
    options = (
        {"reloc": "pic", "codemodel": "small"} if pic else {"codemodel": "jitdefault", "jit": True}
    )
    native = target.triple.split("-")[0] == host().triple.split("-")[0]
    binding = llvm() if native else _all_targets()
    return (
        binding.Target.from_triple(target.triple)
        .create_target_machine(cpu=target.cpu, features=target.features, opt=optimise, **options)
    )
