"""`make mutate`: changes one thing in an equation of a cell, and asks whether the references notice.

Every line that a tick runs, in the files of the cells and of the parts that they are made of, is changed in
turn: a sign is flipped, a product becomes a quotient, a term or a factor is dropped, two gates or states
change places, a constant changes. A mutant is caught when, over a few ticks from a random state, some cell no
longer equals its NumPy reference. A cell with a form of its own for many ticks is compared in that form too.

    python -m tests.mutate [FILE OR CELL ...]

all of them by default. It prints what was not caught, and ends with 1 if any of it is not in `EQUIVALENT`.
"""

from __future__ import annotations

import ast
import collections
import contextlib
import dataclasses
import functools
import gc
import inspect
import pathlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.progress
import rich.table

import rnncells
from rnncells import unroll
from rnncells.cells.gated.fast_slow import default_cell
from rnncells.parts.linear import LinearCell
from tests.cases import CASES, at, inputs, random_params, to_numpy
from tests.laws import BATCH, reference
from tests.mutations import mutants

ROOT = pathlib.Path(__file__).parent.parent
PLACES = ("rnncells/cells", "rnncells/parts")
T = 3
"""Ticks, from a random state."""
BEFORE = 8
"""Ticks that lead to it: more than any delay."""
FEATURES = 20
"""Enough for several heads and for several frequencies of a head; no power of two."""
OTHERWISE: dict[str, dict[str, Any]] = {
    "CfC": {"backbone_layers": 3},
    "FastSlowRNN": {
        "fast": (default_cell(FEATURES),) * 3,
        "slow": dataclasses.replace(default_cell(FEATURES + 1), epsilon=0.25),
    },
    "FastWeightProgrammer": {"nu": 2},
    "GLA": {"key_size": 5},
    "GatedDeltaNet": {"key_size": 5},
    "HiPPOLegS": {"memories": 2},
    "OutputGatedGRU": {"candidate_activation": "tanh"},
    "Retention": {"heads": 2},
    "ShufflingRNN": {"layers": 3},
}
"""Cells in which more of their equations matter than at the defaults."""
AXES = "leading axes of size 1 are what broadcasting adds by itself"
SHIFT = "what all exponents share cancels; it only keeps them small"
EMPTY = "one stride more, beyond the last unit, has no pairs"
EQUIVALENT = {
    ("LMU.prepare", "swap 0: wide, dtype = (accumulator(dtype_of(params)), params['memory_kernel'].dtype)"): (
        "in double precision both are double"
    ),
    ("LinearRNN.project", "change the whole number: drive.ndim - 1"): AXES,
    ("LinearRNN.project", "drop the left side: (1,) * (drive.ndim - 1) + transition.shape"): AXES,
    ("LinearRNN.project", "drop the right side: (1,) * (drive.ndim - 1)"): AXES,
    ("MinLSTM._write", "flip the sign: -f"): SHIFT,
    ("MinLSTM._write", "flip the sign: -i"): SHIFT,
    ("NAS.step", "swap 0: u_3, v_3 = (split_gates(side, 8)[3] for side in (drive, product))"): (
        "only their product is used"
    ),
    ("ScoRNN.prepare", "invert a factor: cayley(skew(wide, size)) * signs[None]"): "the signs are 1 and -1",
    ("_log", "change the constant: 0.5"): "both branches are the same function, with other roundings",
    ("align", "drop the left side: (1,) * (like.ndim - vector.ndim) + vector.shape"): AXES,
    ("align", "drop the right side: (1,) * (like.ndim - vector.ndim)"): AXES,
    ("rotation_layers", "change the whole number: size - 1"): EMPTY,
    ("rotation_layers", "drop the right side: size - 1"): EMPTY,
    ("rotation_layers", "flip the sign: size - 1"): EMPTY,
    ("select", "drop the right side: (1,) * (a.ndim - flags.ndim)"): AXES,
}
"""What no reference could notice, by function and mutation, and why."""


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code of a module, and of everything that is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def outermost(code: types.CodeType) -> dict[str, types.CodeType]:
    """The code of functions and methods by name; functions inside them are part of theirs."""
    return {own.co_qualname: own for own in codes(code) if "<locals>" not in own.co_qualname}


def functions_of(file: str) -> dict[str, list[types.FunctionType]]:
    """The functions of a file as they were imported, by name; wrapped ones included."""
    found = collections.defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, types.FunctionType) and each.__code__.co_filename == file:
            found[each.__code__.co_qualname].append(each)
    return {name: functions for name, functions in found.items() if "<locals>" not in name}


@contextlib.contextmanager
def replaced(functions: list[types.FunctionType], code: types.CodeType) -> Iterator[None]:
    """The functions run other code for a while."""
    before = [function.__code__ for function in functions]
    for function in functions:
        function.__code__ = code
    try:
        yield
    finally:
        for function, own in zip(functions, before, strict=True):
            function.__code__ = own


def cells() -> dict[str, rnncells.Cell]:
    """The cells of the tests, wide enough, and with no number at its default, where much is 0 or 1."""
    wide = {name: dataclasses.replace(cell, features=FEATURES) for name, cell in CASES.items()}
    others = {
        f"{name}, otherwise": dataclasses.replace(wide[name], **changes)
        for name, changes in OTHERWISE.items()
    }
    return {name: moved(cell) for name, cell in (wide | others).items()}


def moved(cell: rnncells.Cell) -> rnncells.Cell:
    """The cell with each of its numbers changed, within its range, so that no two are equal."""
    changes: dict[str, float] = {}
    for field in dataclasses.fields(cell):
        value, bounds = getattr(cell, field.name), field.metadata
        if "low" in bounds and isinstance(value, float):
            low, high = (bounds[end] for end in ("low", "high"))
            near = ((0.75 - 0.02 * len(changes)) * value + more for more in (0.1, 0.0))
            fits = [n for n in near if (low is None or low < n) and (high is None or n < high)]
            changes[field.name] = fits[0]
    return dataclasses.replace(cell, **changes)


def by_ticks(cell: rnncells.Cell, params, carry, xs) -> list[np.ndarray]:
    """The states and outputs of ticks, one by one, outside jit."""
    weights, found = cell.prepare(params, like=at(xs, 0)), []
    for t in range(T):
        carry, y = cell.tick(weights, carry, at(xs, t))
        found += [*jax.tree.leaves(carry), y]
    return to_numpy(found)


def by_chunks(cell: rnncells.Cell, params, carry, xs) -> list[np.ndarray]:
    """The outputs of the cell's own form for many ticks."""
    return to_numpy(
        jax.tree.leaves(jax.jit(functools.partial(unroll, cell, parallel=True))(params, xs, carry))
    )


class Check:
    """One cell against its reference, one way."""

    def __init__(self, name: str, cell: rnncells.Cell, way: Callable, length: int) -> None:
        self.name, self.way, self.cell = name, way, cell
        params, xs = random_params(self.cell, dtype=jnp.float64), inputs(self.cell, length, BATCH)
        carry = self.cell.initial_carry(params, BATCH, like=at(xs, 0))
        for t in range(BEFORE):
            carry, _ = self.cell(params, carry, at(xs, -1 - t % length))
        self.args = to_numpy((params, carry, xs))
        count = len(jax.tree.leaves(carry))
        last = reference(self.cell, *self.args)
        if way is by_chunks:
            self.expected = [*last[:count], last[count]]
        else:
            states = [[leaf[t] for leaf in last[count + 1 :]] for t in range(T)]
            self.expected = [leaf for t in range(T) for leaf in (*states[t], last[count][t])]
        self.args = jax.tree.map(jnp.asarray, self.args)
        if not self.passes():
            raise AssertionError(f"{name} differs from its reference before anything is changed.")

    def passes(self) -> bool:
        try:
            found = self.way(self.cell, *self.args)
        except Exception:
            return False
        return all(
            a.shape == b.shape and np.allclose(a, b, rtol=1e-9, atol=1e-9)
            for a, b in zip(found, self.expected, strict=True)
        )

    def lines(self) -> set[tuple[str, int]]:
        """The lines of the files in question that a check runs."""
        seen: set[tuple[str, int]] = set()
        folders = tuple(str(ROOT / place) for place in PLACES)

        def trace(frame, event, _):
            file = frame.f_code.co_filename
            if not file.startswith(folders):
                return None
            seen.add((file, frame.f_lineno))
            return trace

        sys.settrace(trace)
        try:
            self.way(self.cell, *self.args)
        finally:
            sys.settrace(None)
        return seen


def checks(cells: dict[str, rnncells.Cell]) -> list[Check]:
    found = [Check(name, cell, by_ticks, T) for name, cell in cells.items()]
    for name, cell in cells.items():
        if isinstance(cell, LinearCell) and cell.chunk_size is not None:
            found.append(Check(name, cell, by_chunks, cell.chunk_size + 2))
    return found


def unnoticed(reached_by: list[Check]) -> bool:
    """Whether all checks pass. What was traced before the change, such as a function under
    `jax.checkpoint`, is traced again before this is believed."""
    if not all(check.passes() for check in reached_by):
        return False
    jax.clear_caches()
    return all(check.passes() for check in reached_by)


def main(wanted: list[str]) -> int:
    jax.config.update("jax_enable_x64", True)
    console = rich.console.Console()
    every = cells()
    home = {name: inspect.getfile(type(cell)) for name, cell in every.items()}
    files = {home.get(word, str(ROOT / word)) for word in wanted}
    own = {name: cell for name, cell in every.items() if home[name] in files}
    reach: dict[tuple[str, int], list[Check]] = collections.defaultdict(list)
    for check in checks(own if files and {home[name] for name in own} == files else every):
        for place in check.lines():
            reach[place].append(check)
    files = sorted({file for file, _ in reach if file in files or not files})
    caught, missed = 0, []
    for file in rich.progress.track(files, "mutating", console=console):
        reached = {line for other, line in reach if other == file}
        original = outermost(compile(ast.parse(pathlib.Path(file).read_text()), file, "exec"))
        running = functions_of(file)
        for mutation, tree in mutants(file, reached):
            changed = outermost(compile(tree, file, "exec"))
            name = next(name for name in running if changed[name] != original[name])
            with replaced(running[name], changed[name]):
                survived = unnoticed(reach[file, mutation.line])
            if survived:
                missed.append(
                    (f"{pathlib.Path(file).relative_to(ROOT)}:{mutation.line}", name, mutation.words)
                )
            caught += not survived
    excused = [row for row in missed if row[1:] in EQUIVALENT]
    table = rich.table.Table("where", "function", "mutation", "why")
    for where, name, words in missed:
        table.add_row(where, name, words, EQUIVALENT.get((name, words), "[red]not caught"))
    console.print(table)
    total = caught + len(missed)
    console.print(
        f"{total} mutants: {caught} caught, {len(excused)} equivalent ({len(excused) / max(total, 1):.1%}),"
        f" {len(missed) - len(excused)} not caught."
    )
    return int(len(missed) > len(excused))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
