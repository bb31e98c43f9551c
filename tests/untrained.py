"""Runs that were never trained: what they would have left, without the time that they take."""

import jax
import jax.numpy as jnp

from experiments.harness import weights
from experiments.harness.model import Net
from experiments.harness.options import Config
from experiments.harness.train import batch_like
from experiments.harness.trained import Trained, load


def left(config: Config) -> Trained:
    """The folder of a run of the first cell, with its first weights; loaded from there."""
    task, cell = config.task(), config.cells[0]
    module = config.model(task)(config.numbers(cell).cell, task.output_size)
    one = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), batch_like(task))
    params = jax.jit(Net(module).init)(jax.random.key(0), one)
    config.out.mkdir(parents=True)
    weights.describe(config.out, config, task)
    weights.save(config.out, params, {"cell": cell, "run": 0, "seed": 0, "numbers": {}})
    return load(config.out)
