"""The equations of a docstring as Markdown.

Docstrings have equations in plain text, such as `h' = (1 - z) n + z h,    y = h'`. Two spaces or more end an
equation, unless a comma stands before them; what follows an equation and is none itself is a remark on it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from experiments.catalogue.tex import GREEK, KNOWN, TOKENS, UnclearError, expression

RELATIONS = ("=", "<-")
WIDTH = 80
"""Signs of a line that fit on a page."""
NEAR = 25
CASE = r"\phantom{=}\; "


@dataclasses.dataclass
class Row:
    """One equation as it is written, and the remarks on it."""

    left: str
    right: str
    remarks: list[str]

    def __len__(self) -> int:
        return len(self.left + self.right)

    def tex(self, column: str) -> str:
        """With remarks behind this mark."""
        remarks = "".join(f" {column} {expression(remark)}" for remark in self.remarks)
        return (
            f"{expression(self.left)} & {'' if self.left else CASE}{expression(self.right)}{remarks}".strip()
        )


def block(lines: Sequence[str]) -> str:
    """An indented block of a docstring as Markdown: its equations as TeX, other lines as code."""
    parts: list[tuple[bool, list[Row], list[str]]] = []
    for line in lines:
        made = rows(line)
        if not parts or parts[-1][0] != bool(made):
            parts.append((bool(made), [], []))
        parts[-1][1].extend(made)
        parts[-1][2].append(line)
    return "\n\n".join(_aligned(made) if clear else _code(text) for clear, made, text in parts)


def _aligned(made: Sequence[Row]) -> str:
    """Equations below each other; remarks too, where that takes little room."""
    said = [row for row in made if row.remarks]
    widest, remark = max(map(len, made)), max((len("".join(row.remarks)) for row in said), default=0)
    near = len(said) > 1 and widest < max(map(len, said)) + NEAR and widest + remark < WIDTH
    body = " \\\\\n".join(row.tex("&&" if near else r"\qquad") for row in made)
    return "\n".join(("$$", r"\begin{aligned}", body, r"\end{aligned}", "$$"))


def _code(lines: Sequence[str]) -> str:
    return "\n".join(("```text", *lines, "```"))


def rows(line: str) -> list[Row]:
    """The equations of a line, in order; none where it is not understood."""
    made: list[Row] = []
    goes_on = False
    for part in re.split(r"(?<!:) {2,}", line.strip()):
        place = _relation(part)
        if goes_on and (place is None or len(made[-1]) + len(part) < WIDTH):
            made[-1].right += f"    {part}"
        elif place is not None:
            made.append(Row(part[:place].strip(), part[place:], []))
        elif made:
            made[-1].remarks.append(part)
        elif line.startswith(" "):  # one more case of what stands above
            made.append(Row("", part, []))
        else:
            return []
        goes_on = part[-1] in ",;" and not made[-1].remarks
    try:
        for row in made:
            row.tex("")
    except UnclearError:
        return []
    return made


def _relation(part: str) -> int | None:
    """Where an equation has its sign of equality; None where words come first."""
    depth = 0
    for found in TOKENS.finditer(part):
        depth += (found.lastgroup == "open") - (found.lastgroup == "close")
        if depth == 0 and found["symbol"] in RELATIONS:
            left = part[: found.start()].strip()
            words = set(re.findall(r"(?<![A-Za-z/_])[A-Za-z]{2,}(?![A-Za-z(_/])", left)) - GREEK - KNOWN
            return found.start() if words <= {left} else None
    return None
