"""Recurrences one after the other, as one cell: each is linear by itself, all together are not."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import chex
import jax

from rnncells.cell import Carry, Cell, Drive, Inputs, Like, Out, Params, Shape, Weights
from rnncells.run import Result, Run, Scan


class Cascade(Cell):
    """A cell whose state is that of several stages: what a stage gives out of a whole sequence is known
    before the next one begins, so that each runs by the scan that suits it, in parallel where that pays.

    Tick by tick it acts as any other cell, with the same result. Subclasses say what the stages are; the
    input of the cell is its drive.
    """

    carry_type: ClassVar[Callable[..., Any]]
    """Makes a state out of those of the stages, in order: a NamedTuple."""

    @property
    @abc.abstractmethod
    def stages(self) -> Sequence[Cell]:
        """The cells, in order."""

    def of_stage(self, i: int, params: Params) -> Params:
        """What stage i sees of the cell's params or weights; by default everything."""
        return params

    def feed(self, i: int, drive: Drive, ys: Sequence[Any]) -> Any:
        """The input of stage i, pointwise in time, from the cell's drive and from what the stages before gave
        out; by default from the one before."""
        return ys[-1] if ys else drive

    @property
    def layered(self) -> bool:
        return True

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> Carry:
        return self.carry_type(
            *(
                stage.initial_carry(self.of_stage(i, params) if params else None, batch_shape, like=like)
                for i, stage in enumerate(self.stages)
            )
        )

    def project(self, weights: Weights, x: Inputs, key: chex.PRNGKey | None = None) -> Drive:
        return x

    def step(self, weights: Weights, carry: Carry, drive: Drive) -> tuple[Carry, Out]:
        states: list[Carry] = []
        ys: list[Any] = []
        for i, (stage, state) in enumerate(zip(self.stages, carry, strict=True)):
            own = self.of_stage(i, weights)
            of_stage = stage.project(own, self.feed(i, drive, ys))
            state, out = stage.step(own, state, of_stage)
            states.append(state)
            ys.append(stage.readout(own, out, of_stage))
        return self.carry_type(*states), ys[-1]

    def over(self, scan: Scan, run: Run) -> Result:
        drive = jax.vmap(self.project, (None, 0))(run.weights, run.ticks.x)
        results: list[Result] = []
        for i, stage in enumerate(self.stages):
            x = self.feed(i, drive, [result.ys for result in results])
            own = dataclasses.replace(
                run,
                weights=self.of_stage(i, run.weights),
                initial=run.initial[i],
                carry=run.carry[i],
                ticks=run.ticks._replace(x=x, key=None),
            )
            results.append(stage.over(scan, own))
        carries = self.carry_type(*(result.carries for result in results)) if run.return_carries else None
        return Result(self.carry_type(*(result.carry for result in results)), results[-1].ys, carries)
