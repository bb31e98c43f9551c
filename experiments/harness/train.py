"""Training as pure functions: a model on any task, from one key.

A block of updates, batches drawn on device included, is one program; validation is another. What is Python
here runs once, while it is traced; the loop on the host is in session.py.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import chex
import jax
import jax.numpy as jnp

from experiments.harness import evaluation
from experiments.harness.data import Arrays, Parts, count, order, time_major
from experiments.harness.hyperparameters import Hyperparameters
from experiments.harness.learner import Best, Learner, State
from experiments.harness.model import ModelFactory, Net
from experiments.harness.options import Config, Training
from rnncells.parts.arithmetic import select
from rnncells.tasks import Batch, Task
from rnncells.tasks.base import higher_is_better

Scores = dict[str, dict[str, jax.Array]]
"""Metrics by the part that they are of: validation, and training where the data are finite."""

VALIDATION, TEST = 2**31 + 1, 2**31
"""Seeds of what is drawn to judge a run, beside those of the runs."""


class Train(NamedTuple):
    """A run as pure functions of keys and hyperparameters.

    The last argument, the data of a finite task, may be left out, and is a constant of the program then.
    """

    init: Callable[[chex.PRNGKey, Hyperparameters], State]
    advance: Callable[..., tuple[State, jax.Array]]
    """(state, hyper, parts): `report_every` updates: the new state, and the loss of each update (NaN once
    diverged or stopped)."""
    validate: Callable[..., tuple[State, Scores]]
    """(state, hyper, parts): what has become of the run, judged by validation: which weights are the best
    ones, whether the task is solved, whether the run ends or goes on to the next length; and the scores."""
    test: Callable[..., dict[str, jax.Array]]
    """(state, hyper, parts): the metrics of the best weights (of the last ones where nothing was validated)
    on the test part, or on `test_sequences` fresh sequences of full length, the same for every run."""
    task: Task
    lengths: tuple[int, ...]
    """The curriculum; the last is the length of the task."""
    parts: Parts | None
    """The data of a finite task, on the host."""


def make_train(
    config: Config,
    cell: str | None = None,
    *,
    axis: str | None = None,
    remat: bool = False,
    model: ModelFactory | None = None,
) -> Train:
    """The run of one cell on the task of an experiment, as pure functions of (key, hyperparameters).

    Args:
        config: of the experiment. Its numbers are not read here: `config.numbers(cell)` are arguments of what
            is returned, and may be traced, so that runs are swept without compiling again.
        cell: which of `config.cells`; may be left out where there is one.
        axis: the axis of `jax.shard_map` over which every batch is divided. All devices draw the whole batch
            and take their part, so that what is learned does not depend on their number.
        remat: keep every k-th state only, k the root of the number of ticks, and recompute the rest.
        model: of (cell, output_size, remat_every); by default what the config says.

    Raises:
        ValueError: for a cell that the config does not have, a curriculum that does not end at the task, and
            options that do not fit the task.
    """
    if cell is None and len(config.cells) == 1:
        (cell,) = config.cells
    if cell not in config.cells:
        raise ValueError(f"cell: expected one of {', '.join(config.cells)}, got {cell}.")
    training, task = config.training, config.task()
    parts: Parts | None = getattr(task, "parts", None)
    stages = stages_of(config, task, finite=parts is not None)
    factory = model or config.modules().get(cell) or config.model(task)
    like = batch_like(task)
    if config.pooling != "every" and like.mask.ndim == 2:
        raise ValueError(
            f"pooling: expected every, because the task wants an output at every tick, got {config.pooling}."
        )
    streams = count(parts.train) if parts is not None and streaming(task) else None
    sign = -1.0 if higher_is_better(task) else 1.0
    check_streams(config, axis, streams)
    check_end(training, task, parts)

    def learner(hyper: Hyperparameters, task: Task) -> Learner:
        every = math.isqrt(ticks(task)) if remat else None
        net = Net(factory(hyper.cell, task.output_size, remat_every=every))
        check_segments(training, like, net, streams)
        return Learner(net, task, hyper.optimizer, training, axis)

    def init(key: chex.PRNGKey, hyper: Hyperparameters) -> State:
        one = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
        return learner(hyper, task).init(key, one, streams)

    def advance(state: State, hyper: Hyperparameters, parts: Parts | None = parts) -> tuple[State, jax.Array]:
        train = None if parts is None else parts.train

        def block(task: Task, state: State) -> tuple[State, jax.Array]:
            here, rows = learner(hyper, task), None
            if train is not None and streams is None:
                size = training.batch_size
                start, number = state.update * size, training.report_every * size
                rows = order(state.order, count(train), start, number).reshape(-1, size)

            def update(state: State, own: jax.Array | None) -> tuple[State, jax.Array]:
                return here.update(state, own, train)

            return jax.lax.scan(update, state, rows, length=training.report_every)

        go = by_stage(block)
        if not training.stop_when_solved and training.patience is None:
            return go(state)

        def rest(state: State) -> tuple[State, jax.Array]:
            losses = jax.eval_shape(go, state)[1]
            return state, jnp.full(losses.shape, jnp.nan, losses.dtype)

        return cast(tuple[State, jax.Array], jax.lax.cond(state.stopped >= 0, rest, go, state))

    def by_stage(run: Callable[[Task, State], Any]) -> Callable[[State], Any]:
        """A function of the length at which a run is."""
        each = [functools.partial(run, own) for own in stages]
        return each[0] if len(each) == 1 else lambda state: jax.lax.switch(state.stage, each, state)

    def validate(state: State, hyper: Hyperparameters, parts: Parts | None = parts) -> tuple[State, Scores]:
        if parts is not None and parts.validation is None:
            return state, {}

        def judged(task: Task, state: State) -> tuple[Scores, jax.Array]:
            here = learner(hyper, task)
            if parts is None:
                key = jax.random.fold_in(jax.random.key(VALIDATION), state.update)
                scores = {
                    "validation": evaluation.fresh(here, state.params, key, training.validation_sequences)
                }
            else:
                held = cast(Arrays, parts.validation)
                scores = {"validation": evaluation.whole(here, state.params, held)}
                scores["training"] = evaluation.whole(here, state.params, parts.train, held)
            return scores, jnp.asarray(task.solved(scores["validation"]), bool)

        scores, solved = by_stage(judged)(state)
        return decided(state, sign * scores["validation"][task.score], solved), scores

    def decided(state: State, score: jax.Array, solved: jax.Array) -> State:
        """What follows from a validation, of which a lower score is a better one."""
        healthy = (state.diverged < 0) & (state.stopped < 0)
        last = state.stage == len(stages) - 1
        onward = healthy & solved & ~last
        found = Best(state.params, score.astype(jnp.float32), state.update)
        best = select(healthy & (score < state.best.score), found, state.best)
        # At a new length, scores begin anew.
        best = select(onward, found._replace(score=jnp.float32(jnp.inf)), best)
        now = jnp.where(healthy & solved & last & (state.solved < 0), state.update, state.solved)
        over = jnp.asarray(False)
        if training.stop_when_solved:
            over |= now >= 0
        if training.patience is not None:
            over |= state.update - jnp.maximum(best.update, 0) >= training.patience
        stopped = jnp.where(healthy & over, state.update, state.stopped)
        stage = state.stage + onward.astype(jnp.int32)
        return state._replace(stage=stage, best=best, solved=now, stopped=stopped)

    def test(state: State, hyper: Hyperparameters, parts: Parts | None = parts) -> dict[str, jax.Array]:
        here = learner(hyper, task)
        params = select(state.best.update >= 0, state.best.params, state.params)
        if parts is None:
            return evaluation.fresh(here, params, jax.random.key(TEST), training.test_sequences)
        return {} if parts.test is None else evaluation.whole(here, params, parts.test)

    return Train(init, advance, validate, test, task, (*training.lengths, task.length), parts)


def stages_of(config: Config, task: Task, finite: bool) -> list[Task]:
    """The task at every length of the curriculum."""
    lengths, training = config.training.lengths, config.training
    if finite and lengths:
        raise ValueError(f"lengths: expected none for a task with data of its own, got {lengths}.")
    if finite and training.updates * training.batch_size >= 2**31:
        raise ValueError(f"updates: expected fewer than 2 ** 31 sequences in all, got {training.updates}.")
    if lengths and lengths[-1] >= task.length:
        raise ValueError(f"lengths: expected lengths below the task's {task.length}, got {lengths}.")
    return [*(dataclasses.replace(task, length=length) for length in lengths), task]  # type: ignore[type-var]


def check_end(training: Training, task: Task, parts: Parts | None) -> None:
    """What ends a run early needs something that decides."""
    for name in ("stop_when_solved", "patience"):
        if getattr(training, name) and parts is not None and parts.validation is None:
            raise ValueError(f"{name}: expected validation data, which decide, got none.")
    if training.stop_when_solved and getattr(task, "enough", 0.0) is None:
        raise ValueError(
            "stop_when_solved: expected a task that says when it is solved, with `enough`, got none."
        )


def check_streams(config: Config, axis: str | None, streams: int | None) -> None:
    """What streams cannot be combined with."""
    if streams is not None and config.bidirectional:
        raise ValueError("bidirectional: expected sequences, got streams, whose future is not known.")
    if streams is not None and axis is not None:
        raise ValueError(f"devices_per_run: expected 1 for streams, got {config.placement.devices_per_run}.")


def check_segments(training: Training, like: Batch, net: Net, streams: int | None) -> None:
    """What is learned in segments needs outputs at every tick, and a model that hands its state on."""
    if streams is not None and not {"carry", "resets"} <= net.takes:
        raise ValueError("model: expected a module that takes `carry` and `resets`, for streams.")
    if training.truncate_every is not None and (like.mask.ndim == 1 or "carry" not in net.takes):
        why = "the model takes no `carry`" if like.mask.ndim > 1 else "each sequence has one output"
        raise ValueError(f"truncate_every: expected none, because {why}, got {training.truncate_every}.")


def streaming(task: Task) -> bool:
    return bool(getattr(task, "stream", False))


def batch_like(task: Task) -> Batch:
    """Shapes and dtypes of one sequence of a task, time-major."""
    parts: Parts | None = getattr(task, "parts", None)
    if parts is None:
        return jax.eval_shape(lambda: task.sample(jax.random.key(0), 1))
    width = task.length if streaming(task) else None
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), parts.train)
    like = jax.eval_shape(time_major, one)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((width or a.shape[0], *a.shape[1:]), a.dtype), like)


def ticks(task: Task) -> int:
    """Ticks of a sequence, which for some tasks are more than its length."""
    return int(jax.tree.leaves(batch_like(task).inputs)[0].shape[0])
