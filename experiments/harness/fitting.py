"""A model fitted to arrays of the user, and what can be done with it: the training of the command line, from
Python."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import numpy as np
from rich.console import Console

from experiments.harness import given, run
from experiments.harness.data import Arrays, Parts, count, segments, split
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.model import ModelFactory, Pooling
from experiments.harness.options import Config, ConfigError, Training, updates_of
from experiments.harness.population import Run
from experiments.harness.session import StopRequested
from experiments.harness.supervised import Classification, Finite, Regression
from experiments.harness.trained import Trained, load
from rnncells.tasks import Task

Held = float | tuple[Any, ...] | None
"""A part that is held back: a fraction, or (inputs, targets) or (inputs, targets, lengths)."""


@dataclasses.dataclass(frozen=True)
class Own(Config):
    """An experiment on data, and maybe with a model, of the user."""

    given: Task | None = dataclasses.field(default=None, metadata={"saved": False})
    """The task."""
    module: nn.Module | None = dataclasses.field(default=None, metadata={"saved": False})
    """In place of the default model."""
    module_name: str = ""
    """What stands among the cells for it."""

    def task(self) -> Task:
        if self.given is None:
            raise ValueError("task: expected data, got none.")
        return self.given

    def modules(self) -> Mapping[str, ModelFactory]:
        def own(cell: object, output_size: int, remat_every: int | None = None) -> nn.Module:
            if self.module is None:
                raise ValueError(f"model: expected the {self.module_name} that was fitted, got none.")
            return self.module

        return {self.module_name: own} if self.module_name else {}


def fit(
    inputs: Any,
    targets: Any = None,
    lengths: Any = None,
    *,
    validation: Held = 0.2,
    test: Held = None,
    task: Finite | None = None,
    model: nn.Module | None = None,
    cell: str = "LSTM",
    features: int | tuple[int, ...] = 64,
    layers: int = 1,
    bidirectional: bool = False,
    embedding: int | None = None,
    pooling: Pooling | None = None,
    dropout: float | None = None,
    epochs: int = 20,
    batch_size: int = 32,
    optimizer: Optimizer | None = None,
    patience: int | None = None,
    seed: int = 0,
    out: str | pathlib.Path | None = None,
    verbose: bool = True,
) -> Trained:
    """Trains a model on arrays, which are batch-major as those of Keras and PyTorch.

    Args:
        inputs: floats [N, T, I], or tokens, ints [N, T]; or a list of N arrays of their own lengths; or the
            `Parts` of data that are divided already, or `Arrays`.
        targets: for each sequence, ints [N] (classes) or floats [N] or [N, O]; or for each tick, ints [N, T]
            or floats [N, T, O].
        lengths: ints [N]: ticks of each sequence, where they differ.
        validation: which fraction of the sequences decides which weights are the best ones; or sequences of
            its own, as (inputs, targets) or (inputs, targets, lengths); None trains on all, to the end.
        test: likewise, what is read once, at the end.
        task: in place of cross-entropy for ints and mean squared error for floats; its own data count.
        model: a Flax linen module in place of the default one; see `experiments.harness.model.Net`. The
            options from `cell` to `dropout` are for the default one.
        cell: of the catalogue, by name.
        features, layers: widths of the layers.
        bidirectional: every layer reads both ways.
        embedding: width of the vector of each token; None takes one-hot vectors.
        pooling: "every", "last", "mean" or "attention"; by default every for targets at each tick, or last.
        dropout: rate of variational dropout.
        epochs: how often every sequence is seen.
        batch_size: sequences of a batch; of streams all are read at a time.
        optimizer: Adam at a learning rate of .003 and gradients clipped to norm 1 by default.
        patience: end after so many epochs without a better validation score.
        seed: of the division into parts, the first weights, and the order of the sequences.
        out: a folder that keeps everything, for `load`; by default nothing is kept.
        verbose: show how far it is.

    Returns:
        The model with its best weights, its scores and the course of its training.

    Raises:
        ValueError: for data and options that do not fit.
        KeyboardInterrupt: after the epoch in which it was interrupted, when all is saved in `out`.
    """
    parts = parts_of(inputs, targets, lengths, validation, test, seed) if task is None else task.data
    whole = parts.train
    if task is None:
        kind = Regression if np.asarray(whole.targets).dtype.kind == "f" else Classification
        task = kind.of(parts)
    if pooling is None:
        pooling = "every" if whole.mask.ndim == 2 else "last"
    size = count(whole)
    every = segments(whole, task.length) if task.stream else updates_of(1, size, batch_size)
    training = Training(
        updates=epochs * every,
        batch_size=size if task.stream else batch_size,
        report_every=every,
        checkpoint_every=every * epochs,
        patience=None if patience is None else patience * every,
        seeds=1,
        first_seed=seed,
        keep=1,
    )
    own = "" if model is None else type(model).__name__
    config: dict[str, Any] = {"features": features, "layers": layers, "bidirectional": bidirectional}
    config |= {"embedding": embedding, "pooling": pooling, "dropout": dropout, "training": training}
    config |= {"optimizer": optimizer or Optimizer(), "given": task, "module": model}
    config["module_name"] = own
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch, "run") if out is None else pathlib.Path(out)
        _train(Own(cells=(own or cell,), out=folder, **config), seed, verbose)
        return load(folder, model=model, task=cast(Task, task))


def _train(config: Own, seed: int, verbose: bool) -> None:
    try:
        with run.opened("fit", config, Console(quiet=not verbose)) as here:
            here.train(config.cells[0], [Run({}, seed)])
    except ConfigError as error:
        raise ValueError(str(error)) from error
    except StopRequested as stopped:
        raise KeyboardInterrupt(str(stopped)) from stopped


def parts_of(
    inputs: Any, targets: Any, lengths: Any, validation: Held, test: Held, seed: int | None
) -> Parts:
    """What a user gave, divided."""
    if isinstance(inputs, Parts):
        return inputs
    whole = inputs if isinstance(inputs, Arrays) else given.arrays(inputs, targets, lengths)
    held = {name: part for name, part in (("validation", validation), ("test", test)) if part is not None}
    fractions = {name: part for name, part in held.items() if isinstance(part, (int, float))}
    parts = split(whole, fractions.get("validation", 0.0), fractions.get("test", 0.0), seed)
    own = {}
    for name, part in held.items():
        if name not in fractions:
            own[name] = part if isinstance(part, Arrays) else given.arrays(*cast(tuple[Any, ...], part))
            alike(name, parts.train, own[name])
    return parts._replace(**own)


def alike(name: str, train: Arrays, other: Arrays) -> None:
    """A part has the shapes of the training part, but for the number of sequences."""
    pairs = (("inputs", train.inputs, other.inputs), ("targets", train.targets, other.targets))
    for what, ours, theirs in pairs:
        if ours.shape[2:] != theirs.shape[2:] or ours.dtype != theirs.dtype or ours.ndim != theirs.ndim:
            raise ValueError(
                f"{name}: expected {what} as those of training, {given.said(ours)}, got {given.said(theirs)}."
            )
