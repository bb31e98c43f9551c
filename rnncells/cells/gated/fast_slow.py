"""The fast-slow network: fast cells in a row, and one slow cell beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Carry, Cell, Drive, Inputs, Like, Out, Params, Shape, Weights, derived, locked
from rnncells.cells.gated.layer_norm import LayerNormLSTM
from rnncells.fields import inner, static
from rnncells.initializers import Orthogonal


class FastSlowCarry(NamedTuple):
    """`f, s = carry`."""

    fast: Carry
    """The state that all fast cells share."""
    slow: Carry


class FastSlowDrive(NamedTuple):
    """The drive of the first fast cell, and the key of the tick: the others see what a step makes."""

    first: Drive
    key: chex.PRNGKey | None


def default_cell(features: int) -> LayerNormLSTM:
    """The authors' choice for fast and slow cells, with their epsilon and orthogonal kernels."""
    return LayerNormLSTM(features, epsilon=1e-3, kernel_init=Orthogonal())


def _fast_cells(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, tuple) or len(value) < 2:
        raise TypeError(f"{name}: expected a list of at least two cells, got {value!r}.")
    for i, cell in enumerate(value):
        checks.cell(f"{name}[{i}]", cell)


class FastSlowRNN(Cell):
    """Fast-slow recurrent network: in every tick k fast cells take one state in turn, and a slow cell moves
    once, after the first of them.

        f_1, y_1 = F_1(f, x)
        s', z = S(s, y_1)
        f_2, y_2 = F_2(f_1, z)
        f_i, y_i = F_i(f_(i-1), 0)        for i = 3 ... k
        f' = f_k,    y = y_k

    The fast cells add depth between ticks, the slow one a path with few steps over many ticks.

    Shapes: x [..., I], carry `FastSlowCarry(fast, slow)` of the states of F and of S, y [..., H]. Params:
    those of the cells, by the names fast_1, slow, fast_2, ... fast_k.

    Args:
        features: H, the width of the outputs of the fast cells.
        fast: F_1 ... F_k, cells with one kind of state; by default two of `default_cell(H)`.
        slow: S, of any width; by default `default_cell(H)`.

    Fast cells from the third on read an input of one zero, as in the authors' code: the kernels of that input
    change nothing.

    Source: Mujika, Meier & Steger 2017, arXiv 1705.08639. Characters of the Penn Treebank: two fast cells of
    700 units and a slow one of 400; enwik8: four of 1200 and one of 1500, with `Zoneout` around each. The
    authors' LSTM normalises x W + h U + b as a whole in each gate, `LayerNormLSTM` the two products.
    """

    paper = "Mujika, Meier & Steger 2017, arXiv 1705.08639"

    features: int = static(check=checks.positive_int)
    fast: Sequence[Cell] | None = flax.struct.field(default=None, metadata={"check_in_use": _fast_cells})
    slow: Cell | None = inner(default=None)

    def __post_init__(self) -> None:
        if isinstance(self.fast, list):
            object.__setattr__(self, "fast", tuple(self.fast))
        super().__post_init__()
        cells = self.fast if isinstance(self.fast, tuple) else ()
        for i, cell in enumerate(cells):
            checks.not_a_class(f"FastSlowRNN.fast[{i}]", cell)
            if isinstance(cell, Cell) and cell.output_size != self.features:
                raise ValueError(
                    f"FastSlowRNN.fast[{i}]: expected a cell with {self.features} outputs, got {cell}, which"
                    f" has {cell.output_size}."
                )

    @property
    def children(self) -> Mapping[str, Cell]:
        first, *others = self.fast or (default_cell(self.features),) * 2
        slow = self.slow or default_cell(self.features)
        later = {f"fast_{i}": cell for i, cell in enumerate(others, 2)}
        return {"fast_1": first, "slow": slow, **later}

    @derived
    def blendable(self) -> bool:
        return all(cell.blendable for cell in self.children.values())

    def _sizes(self, input_size: int) -> list[int]:
        """The width of each cell's input."""
        cells = self.children
        return [input_size, self.features, cells["slow"].output_size, *[1] * (len(cells) - 3)]

    def _likes(self, like: Like) -> list[Like]:
        """The input of each cell, as shapes and dtypes."""
        if like is None:
            return [None] * len(self.children)
        return [jax.ShapeDtypeStruct((*like.shape[:-1], n), like.dtype) for n in self._sizes(like.shape[-1])]

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        cells = self.children
        keys, sizes = jax.random.split(key, len(cells)), self._sizes(input_size)
        params = {
            name: cell.init(own, size, dtype)
            for (name, cell), own, size in zip(cells.items(), keys, sizes, strict=True)
        }
        states = {name: cell.carry_shape(params[name]) for name, cell in cells.items() if name != "slow"}
        for name, state in states.items():
            checks.alike(f"FastSlowRNN.fast: expected in {name}, as in fast_1,", states["fast_1"], state)
        return params

    def initial_carry(
        self, params: Params = None, batch_shape: Shape = (), like: Like = None
    ) -> FastSlowCarry:
        likes = self._likes(like)

        def state(name: str, own: Like) -> Carry:
            given = None if params is None else params[name]
            return self.children[name].initial_carry(given, batch_shape, like=own)

        return FastSlowCarry(state("fast_1", likes[0]), state("slow", likes[1]))

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        return {
            name: cell.prepare(params[name], _own(locked(key), i), batch_shape, like=own)
            for i, ((name, cell), own) in enumerate(
                zip(self.children.items(), self._likes(like), strict=True)
            )
        }

    def project(self, weights: Weights, x: Inputs, key: chex.PRNGKey | None = None) -> FastSlowDrive:
        first = self.children["fast_1"].project(weights["fast_1"], x, _own(key, 0))
        return FastSlowDrive(first, key)

    def step(self, weights: Weights, carry: FastSlowCarry, drive: FastSlowDrive) -> tuple[FastSlowCarry, Out]:
        (_, first), (_, slow), *others = self.children.items()
        fast, out = first.step(weights["fast_1"], carry.fast, drive.first)
        y = first.readout(weights["fast_1"], out, drive.first)
        after, seen = slow.tick(weights["slow"], carry.slow, y, _own(drive.key, 1))
        for i, (name, cell) in enumerate(others, 2):
            fast, y = cell.tick(weights[name], fast, seen, _own(drive.key, i))
            seen = jnp.zeros_like(y[..., :1])
        return FastSlowCarry(fast, after), y


def _own(key: chex.PRNGKey | None, cell: int) -> chex.PRNGKey | None:
    return None if key is None else jax.random.fold_in(key, cell)
