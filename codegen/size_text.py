"""Arithmetic on sizes while LLVM is written: i64 texts, of which known numbers fold at once."""

from __future__ import annotations

from stepforge.codegen.llvm import FunctionWriter


def is_number(text: str) -> bool:
    """True for a literal."""
    return text.lstrip("-").isdigit()


class SizeText:
    """Writes integer arithmetic into ``fn``."""

    def __init__(self, fn: FunctionWriter) -> None:
        self.fn = fn

    def sum(self, *terms: str) -> str:
        """The sum of all terms."""
        known = sum(int(term) for term in terms if is_number(term))
        total = ""
        for term in terms:
            if not is_number(term):
                total = self.fn.emit(f"add i64 {total}, {term}") if total else term
        if not total:
            return str(known)
        return self.fn.emit(f"add i64 {total}, {known}") if known else total

    def less(self, a: str, b: str) -> str:
        """``a - b``."""
        if is_number(a) and is_number(b):
            return str(int(a) - int(b))
        return a if b == "0" else self.fn.emit(f"sub i64 {a}, {b}")

    def times(self, *factors: str) -> str:
        """The product of all factors."""
        known, total = 1, ""
        for factor in factors:
            if is_number(factor):
                known *= int(factor)
            else:
                total = self.fn.emit(f"mul i64 {total}, {factor}") if total else factor
        if not total or known == 0:
            return str(known)
        return total if known == 1 else self.fn.emit(f"mul i64 {total}, {known}")

    def least(self, a: str, b: str) -> str:
        """The smaller one."""
        if is_number(a) and is_number(b):
            return str(min(int(a), int(b)))
        return self.fn.intrinsic("smin", "i64", "i64", a, b)

    def most(self, a: str, b: str) -> str:
        """The larger one."""
        if is_number(a) and is_number(b):
            return str(max(int(a), int(b)))
        return self.fn.intrinsic("smax", "i64", "i64", a, b)

    def parts(self, a: str, by: int) -> str:
        """How many pieces of ``by`` cover ``a``; none where it is negative."""
        if is_number(a):
            return str(-(-max(int(a), 0) // by))
        positive = self.most(a, "0")
        if by == 1:
            return positive
        return self.fn.emit(f"udiv i64 {self.sum(positive, str(by - 1))}, {by}")

    def whole(self, a: str, by: int) -> str:
        """``a / by`` rounded down, of what is not negative."""
        return str(int(a) // by) if is_number(a) else self.fn.emit(f"udiv i64 {a}, {by}")
