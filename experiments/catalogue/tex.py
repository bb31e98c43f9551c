"""One side of an equation as TeX, from the plain text of a docstring.

A space is a product. A name of several letters is a Greek letter, a function, or a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


GREEK = _names(
    "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau phi chi psi omega"
    " Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
OPERATORS = _names("cos det exp ln log max min sin tanh")
"""Functions that TeX knows."""
KNOWN = OPERATORS | _names("act conj diag elu Im mean modrelu norm out Re relu silu sign softplus var")
UPRIGHT = {"re", "im"}
"""Subscripts that are abbreviations; other short ones are indices, or gates side by side."""
SYMBOLS = {
    "...": r"\dots ",
    "<-": r"\leftarrow ",
    "->": r"\to ",
    "<=": r"\le ",
    ">=": r"\ge ",
    "!=": r"\ne ",
    "~": r"\sim ",
    "mod": r"\bmod ",
    **{sign: sign for sign in "=<>+-*/"},
}

TOKENS = re.compile(
    r"""
    (?P<space>\ +)
  | (?P<derivative>d[A-Za-z](?:_\w+)?/dt\b)
  | (?P<setting>[a-z][a-z_]+=(?:"[^"]*"|\w+)|"[^"]*")
  | (?P<number>\d+(?:\.\d+)?e-?\d+|\d*\.\d+|\d+)
  | (?P<sum>sum\ over\ (?P<index>\w)\ of\b|sum(?=_))
  | (?P<owned>[A-Za-z]+'s\b)
  | (?P<symbol>\.\.\.|<-|->|<=|>=|!=|mod\b|[=<>+*/~-])
  | (?P<name>[A-Za-z]+\d*)
  | (?P<open>[(\[])
  | (?P<close>[)\]])
  | (?P<bar>\|)
  | (?P<mark>[,;:])
  | (?P<dot>\.(?=\ ))
  | (?P<script>['_^])
    """,
    re.VERBOSE,
)
NUMBERED = re.compile(r"(?<!\w)(?P<name>[A-Za-z]+)(?P<digits>\d+)(?P<more>_?)")


class UnclearError(ValueError):
    """A line that is not understood."""


def expression(text: str) -> str:
    """One side of an equation, or words with symbols among them."""
    return _Reader(NUMBERED.sub(_indexed, text)).all()


def _indexed(found: re.Match[str]) -> str:
    """`beta1_k` as `beta_1,k`, where it is a symbol."""
    symbol = len(found["name"]) == 1 or found["name"] in GREEK | OPERATORS
    comma = "," if found["more"] else ""
    return f"{found['name']}_{found['digits']}{comma}" if symbol else found[0]


class _Reader:
    """Goes through a text once. `before` is what came last: an operand, an operator, a word, or a function
    without brackets."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0
        self.made: list[str] = []
        self.before, self.gap = "start", 0
        self.open: list[str] = []

    def all(self) -> str:
        while self.place < len(self.text):
            found = TOKENS.match(self.text, self.place)
            if found is None:
                raise UnclearError(f"expected no {self.text[self.place]!r} in {self.text!r}")
            kind = next(name for name, value in found.groupdict().items() if value is not None)
            self.place = found.end()
            if kind == "space":
                self.gap = len(found[0])
            else:
                read: Callable[[re.Match[str]], None] = getattr(self, f"_{kind}")
                read(found)
                self.gap = 0
        if self.open:
            raise UnclearError(f"expected that {self.open[-1]!r} is closed in {self.text!r}")
        return "".join(self.made)

    def _add(self, made: str, kind: str) -> None:
        """Adds a token, behind the space that its kind and the last one ask for."""
        kinds = {self.before, kind}
        if self.gap > 1:
            self.made.append(r"\quad ")
        elif self.gap and "word" in kinds and not kinds & {"start", "operator"}:
            self.made.append(r"\ ")
        elif self.gap and self.before == "operand" and kind in ("operand", "function"):
            self.made.append(r"\,")
        elif self.gap or self.before == "function":
            self.made.append(" ")
        self.made.append(made)
        self.before = kind

    def _derivative(self, found: re.Match[str]) -> None:
        self._add(rf"\frac{{d{expression(found[0][1:-3])}}}{{dt}}", "operand")

    def _setting(self, found: re.Match[str]) -> None:
        self._add(_written(found[0], r"\texttt"), "word")

    def _number(self, found: re.Match[str]) -> None:
        mantissa, _, exponent = found[0].partition("e")
        power = "10^{" + exponent + "}"
        value = mantissa if not exponent else power if mantissa == "1" else rf"{mantissa} \cdot {power}"
        self._add(value, "operand")

    def _sum(self, found: re.Match[str]) -> None:
        self._add(r"\sum" + (f"_{{{found['index']}}}" if found["index"] else ""), "operand")

    def _owned(self, found: re.Match[str]) -> None:
        self._word(found[0])

    def _symbol(self, found: re.Match[str]) -> None:
        sign = found[0]
        if (
            sign == "-"
            and self.gap
            and self.before == "operand"
            and not self.text.startswith(" ", self.place)
        ):
            self._add(r"\;{-}", "operator")  # the sign of the next entry of a row
        else:
            self._add(SYMBOLS[sign], "operand" if sign == "..." else "operator")

    def _name(self, found: re.Match[str]) -> None:
        name = found["name"]
        called = self._rest().startswith("(")
        if name == "sqrt" and called:
            self._add(rf"\sqrt{{{expression(self._group())}}}", "operand")
        elif name == "a" and self.before in ("mark", "word") and self._words():
            self._word(name)  # the article
        elif len(name) == 1 or name in GREEK or name == "dt":
            self._add(_letter(name), "operand")
        elif parameter := re.match(r"(?:_[a-z]{2,})+", self._rest()):
            self.place += parameter.end()
            self._add(_written(name + parameter[0], r"\text"), "word")
        elif called or (name in KNOWN and not self._words()):
            made = rf"\{name}" if name in OPERATORS else rf"\operatorname{{{name}}}"
            self._add(made, "function")
        else:
            self._word(name)

    def _word(self, word: str) -> None:
        if self.before == "word" and self.gap == 1 and self.made[-1].startswith(r"\text{"):
            self.made[-1] = f"{self.made[-1][:-1]} {word}}}"
        else:
            self._add(rf"\text{{{word}}}", "word")

    def _words(self) -> bool:
        """Whether a plain word comes next: `mean square of o`, not `ln sqrt(o)`."""
        found = re.match(r" ([A-Za-z]{2,})(?!\()\b", self._rest())
        return found is not None and found[1] not in GREEK | KNOWN

    def _rest(self) -> str:
        return self.text[self.place :]

    def _open(self, found: re.Match[str]) -> None:
        self.open.append(found[0])
        if self.before == "function":
            self.before = "operator"  # no space before the arguments
        self._add(found[0], "operand")
        self.before = "operator"

    def _close(self, found: re.Match[str]) -> None:
        if not self.open or self.open.pop() != {")": "(", "]": "["}[found[0]]:
            raise UnclearError(f"expected no {found[0]!r} at {self.place} in {self.text!r}")
        self.gap = 0
        self.before = "operator"
        self._add(found[0], "operand")

    def _bar(self, found: re.Match[str]) -> None:
        if self.open and self.open[-1] == "|":
            self.open.pop()
            self.made.append(r"\rvert ")
            self.before = "operand"
        else:
            self.open.append("|")
            self._add(r"\lvert ", "operand")
            self.before = "operator"

    def _mark(self, found: re.Match[str]) -> None:
        self.gap = 0
        self.before = "operator"
        self._add(found[0], "mark")

    def _dot(self, found: re.Match[str]) -> None:
        if not self.gap:
            raise UnclearError(f"expected no end of a sentence in {self.text!r}")
        self._add(r"\cdot", "operator")

    def _script(self, found: re.Match[str]) -> None:
        """Primes, indices and exponents, of what came last."""
        if self.gap or self.before not in ("operand", "function", "word"):
            raise UnclearError(f"expected something before {found[0]!r} in {self.text!r}")
        if found[0] == "'":
            self.made.append("'")
        elif found[0] == "^":
            self.made.append(f"^{{{self._exponent()}}}")
        elif self._rest().startswith("("):
            self.made.append(f"_{{{expression(self._group())}}}")
        elif inner := re.match(r"[A-Za-z0-9]+(?:,[A-Za-z0-9]+)*", self._rest()):
            self.place += inner.end()
            self.made.append(f"_{{{','.join(map(_index, inner[0].split(',')))}}}")
        else:
            self.made.append(r"\_")

    def _group(self) -> str:
        """What is between the bracket here and the one that closes it."""
        depth = 0
        for i, sign in enumerate(self._rest()):
            depth += (sign == "(") - (sign == ")")
            if depth == 0:
                inner = self._rest()[1:i]
                self.place += i + 1
                return inner
        raise UnclearError(f"expected that '(' is closed in {self.text!r}")

    def _exponent(self) -> str:
        sign = "-" if self._rest().startswith("-") else ""
        self.place += len(sign)
        if self._rest().startswith("("):
            return sign + expression(self._group())
        found = re.match(r"\*|\d+|[A-Za-z]+", self._rest())
        if found is None:
            raise UnclearError(f"expected an exponent in {self.text!r}")
        self.place += found.end()
        call = f"({self._group()})" if self._rest().startswith("(") else ""
        return sign + (found[0] if found[0] == "*" else expression(found[0] + call))


def _written(name: str, style: str) -> str:
    """A name in the code as it is; a low line is none inside text."""
    return r"\_".join(f"{style}{{{part}}}" for part in name.split("_"))


def _letter(name: str) -> str:
    return rf"\{name}" if name in GREEK else name


def _index(name: str) -> str:
    if name in UPRIGHT or (len(name) > 3 and name not in GREEK):
        return rf"\mathrm{{{name}}}"
    return _letter(name)
