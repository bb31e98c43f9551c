"""What a run has left, to be used: loaded from its folder, asked, judged."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import evaluation, given, weights
from experiments.harness.data import Arrays, count, time_major
from experiments.harness.learner import Learner
from experiments.harness.model import Net
from experiments.harness.options import Config
from experiments.harness.record import Line, lines_of, number
from experiments.harness.settings import placed
from experiments.harness.standing import deciding, score_of, standing
from experiments.harness.supervised import Classification, check_classes
from experiments.harness.train import TEST
from rnncells.tasks import Task
from rnncells.tasks.base import extras


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A model with its best weights."""

    config: Config
    cell: str
    """Which of the config's cells."""
    task: Task
    """Without its data, where it was loaded."""
    module: nn.Module
    params: Any
    about: dict[str, Any]
    """Run, seed, what varied, the update of the weights, their scores."""
    history: dict[str, np.ndarray]
    """The course of the run: update, loss, validation/accuracy and so on, an entry for each report; NaN where
    nothing was judged."""

    @property
    def validation(self) -> dict[str, float]:
        """The scores of the weights on validation data."""
        return _numbers(self.about.get("validation"))

    @property
    def test(self) -> dict[str, float]:
        """And on the test part, read once, at the end of the run."""
        return _numbers(self.about.get("test"))

    @property
    def extras(self) -> dict[str, Any]:
        """What was saved beside the weights: scaler, vocabulary, names of classes."""
        return extras(self.task)

    @functools.cached_property
    def forward(self) -> Callable[..., Any]:
        """(params, inputs, lengths), batch-major -> outputs, batch-major; compiled for every new shape."""
        net = Net(self.module)

        def forward(params: Any, inputs: Any, lengths: Any) -> Any:
            leaf = jax.tree.leaves(inputs)[0]
            batch = time_major(Arrays(inputs, (), jnp.ones(leaf.shape[0], bool), lengths))
            _, outputs = net(params, batch)
            return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1) if a.ndim > 2 else a, outputs)

        return jax.jit(forward)


def load(
    folder: str | pathlib.Path,
    cell: str | None = None,
    run: int | None = None,
    *,
    model: nn.Module | None = None,
    task: Task | None = None,
) -> Trained:
    """What a run has left in its folder.

    Args:
        folder: `out` of the run.
        cell: which of its cells; by default any.
        run: which run of the cell; by default the best one by validation that did not diverge.
        model: the module that was fitted, where it was one of the user's.
        task: the task, where its class cannot be imported.

    Raises:
        ValueError: where there is nothing like that, or it is damaged.
    """
    folder = pathlib.Path(folder)
    config, known = weights.described(folder, with_task=task is None)
    found = [(path, weights.about(path)) for path in weights.files(folder)]
    wanted = [each for each in found if cell in (None, each[1]["cell"]) and run in (None, each[1]["run"])]
    if not wanted:
        names = ", ".join(path.stem for path, _ in found[:12])
        raise ValueError(f"{folder}: expected one of {names}, got cell {cell}, run {run}.")
    whole = task or known or config.task()

    def rank(each: tuple[pathlib.Path, dict[str, Any]]) -> float:
        return standing(whole, score_of(whole, each[1], deciding([each[1]])))

    path, about = min(wanted, key=rank)
    config, numbers = placed(config, about["numbers"])
    own = task or known or config.task()
    if model is None:
        factory = config.modules().get(about["cell"]) or config.model(own)
        model = factory(config.numbers(about["cell"]).replaced(numbers).cell, own.output_size)
    return Trained(config, about["cell"], own, model, weights.load(path), about, _history(folder, about))


def predict(trained: Trained, inputs: Any, lengths: Any = None) -> np.ndarray:
    """Outputs without noise, batch-major: [N, O], or [N, T, O] for every tick; for classes, logits.

    Args:
        trained: from `fit` or `load`.
        inputs: as `fit` takes them; a pytree where the model takes one.
        lengths: ints [N], as `fit` takes them.
    """
    if isinstance(inputs, (dict, Arrays)):
        xs, own = (inputs.inputs, inputs.lengths) if isinstance(inputs, Arrays) else (inputs, lengths)
    else:
        xs, own = given.sequences(inputs, lengths)
        _check(trained.task, xs)
    total = jax.tree.leaves(xs)[0].shape[0]
    size = min(total, trained.config.training.evaluate_at_once)
    outputs = []
    for start in range(0, total, size):
        rows = np.minimum(np.arange(start, start + size), total - 1)  # one shape for all
        own_rows = None if own is None else own[rows]
        chunk = trained.forward(trained.params, jax.tree.map(lambda a, rows=rows: a[rows], xs), own_rows)
        outputs.append(jax.tree.map(lambda a, start=start: np.asarray(a)[: total - start], chunk))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *outputs)


def evaluate(trained: Trained, inputs: Any, targets: Any = None, lengths: Any = None) -> dict[str, float]:
    """The metrics of the task, without noise, exactly as a run has them.

    Args:
        trained: from `fit` or `load`.
        inputs, targets, lengths: as `fit` takes them; or `Arrays` as inputs, which may be streams.
    """
    if isinstance(inputs, Arrays):
        part = inputs
    else:
        part = given.arrays(inputs, targets, lengths)
        _check(trained.task, part.inputs)
    if not count(part):
        raise ValueError("inputs: expected at least one sequence, got none.")
    if isinstance(trained.task, Classification):
        check_classes(part, trained.task.output_size)
    learner = Learner(Net(trained.module), trained.task, trained.config.optimizer, trained.config.training)
    part = jax.tree.map(jnp.asarray, part)
    scores = jax.jit(lambda params, part: evaluation.whole(learner, params, part))(trained.params, part)
    return {name: float(value) for name, value in scores.items()}


def judge(
    trained: Trained, task: Task, part: str = "test", sequences: int | None = None
) -> Callable[[Any], dict[str, float]]:
    """A function of parameters such as those of `trained`: their scores, without noise, as a run has them.

    Args:
        trained: whose module and options.
        task: with its data, where they are finite; otherwise at any length.
        part: of finite data: test, validation or train.
        sequences: fresh ones, of a task that draws them; by default as many as the test of the run had.

    Raises:
        ValueError: for a part that the data do not have.
    """
    training = trained.config.training
    learner = Learner(Net(trained.module), task, trained.config.optimizer, training)
    parts = getattr(task, "parts", None)
    held = None if parts is None else jax.tree.map(jnp.asarray, getattr(parts, part))
    if parts is not None and held is None:
        raise ValueError(f"part: expected one that the data have, got {part}.")

    def scores(params: Any, held: Arrays | None) -> dict[str, jax.Array]:
        if held is not None:
            return evaluation.whole(learner, params, held)
        number = sequences or training.test_sequences
        return evaluation.fresh(learner, params, jax.random.key(TEST), number)

    compiled = jax.jit(scores)
    return lambda params: {name: float(value) for name, value in compiled(params, held).items()}


def _check(task: Task, inputs: np.ndarray) -> None:
    """Inputs like those that were learned."""
    known = getattr(task, "tokens", None)
    if (known is not None) != (inputs.dtype.kind == "i"):
        kind = "floats [N, T, I]" if known is None else "tokens, ints [N, T]"
        raise ValueError(f"inputs: expected {kind}, as in training, got {given.said(inputs)}.")
    if known is not None and inputs.max() >= known:
        raise ValueError(f"inputs: expected tokens below {known}, as in training, got {inputs.max()}.")
    if known is None and inputs.shape[-1] != task.input_size:
        raise ValueError(
            f"inputs: expected {task.input_size} numbers a tick, as in training, got {given.said(inputs)}."
        )


def _numbers(scores: dict[str, Any] | None) -> dict[str, float]:
    return {name: number(value) for name, value in (scores or {}).items()}


def _history(folder: pathlib.Path, about: dict[str, Any]) -> dict[str, np.ndarray]:
    lines, _ = lines_of(folder / "metrics.jsonl")
    own = [
        _flat(line)
        for line in lines
        if (line["cell"], line["run"]) == (about["cell"], about["run"]) and "test" not in line
    ]
    names = dict.fromkeys(name for line in own for name in line)
    return {name: np.array([number(line.get(name)) for line in own], float) for name in names}


def _flat(line: Line) -> dict[str, Any]:
    names = ("update", "sequences", "epochs", "length", "loss")
    flat: dict[str, Any] = {name: line[name] for name in names if name in line}
    for part in ("validation", "training"):
        flat |= {f"{part}/{name}": value for name, value in line.get(part, {}).items()}
    return flat
