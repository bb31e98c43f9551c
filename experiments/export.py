"""A trained model as a file that acts tick by tick where this library is not installed."""

from __future__ import annotations

import dataclasses
import pathlib
import runpy
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import tyro

import rnncells
from experiments.harness import processes, trained
from experiments.harness.model import Model
from experiments.harness.trained import Trained, predict
from experiments.parts import compression

PLATFORMS = ("cpu", "cuda", "tpu")
ACT = '''"""Asks the exported model: python act.py INPUTS.npy OUTPUTS.npy. Needs jax and flatbuffers.

INPUTS are WANTED, outputs GIVEN.
"""

import pathlib
import sys

import jax
import jax.export
import numpy as np

FOLDER = pathlib.Path(__file__).parent


def act(inputs):
    """All sequences side by side, tick by tick."""
    tick = jax.jit(jax.export.deserialize((FOLDER / "tick.jax").read_bytes()).call)
    with np.load(FOLDER / "start.npz") as held:
        carry = [np.repeat(held[name], len(inputs), 0) for name in held]
    outputs = []
    for x in np.swapaxes(inputs, 0, 1):
        carry, y = tick(carry, x)
        outputs.append(np.asarray(y))
    return np.stack(outputs, 1)


if __name__ == "__main__":
    np.save(sys.argv[2], act(np.load(sys.argv[1])))
'''
"""The script that is written beside the file."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Writes the best weights of a run, with the function of one tick, as a file for JAX alone.

    The folder `out` gets tick.jax (`jax.export`; (carry, x [B, I]) -> (carry, y [B, O]), for any B, on CPUs,
    NVIDIA GPUs and TPUs), start.npz (the carry before the first tick), and act.py, which uses both.
    """

    run: tyro.conf.Positional[pathlib.Path]
    """The folder that a run has left."""
    form: str | None = None
    """In place of the weights of the run, a form that `python -m experiments.compress` has made of them, such
    as int8."""
    cell: str | None = None
    """Which of the run's cells; by default the one of the best run."""
    number: int | None = None
    """Which run of it; by default the best one by validation."""
    out: pathlib.Path | None = None
    """By default the folder `exported` in that of the run."""


def main(config: Config) -> None:
    processes.use_every_core()
    out = config.out or config.run / "exported"
    try:
        model = trained.load(config.run, config.cell, config.number)
        if config.form is not None:
            model = compression.opened(model, config.run / "compressed", config.form)
        error = export(model, out)
    except ValueError as problem:
        sys.exit(str(problem))
    size, near = (out / "tick.jax").stat().st_size, f"within {error:.1g}" if error else "to the last bit"
    print(
        f"{out}: tick.jax ({size:,} bytes, for {', '.join(PLATFORMS)}), start.npz and act.py."
        f" Tick by tick it says what the model says, {near}."
    )


def export(model: Trained, out: pathlib.Path) -> float:
    """Writes the three files, and asks them: the largest difference from what the model says."""
    tick, start = acting(model)
    whole = jax.export.export(jax.jit(tick), platforms=PLATFORMS)(*symbolic(start, inputs_like(model, 1)))
    out.mkdir(parents=True, exist_ok=True)
    (out / "tick.jax").write_bytes(whole.serialize())
    carry: dict[str, Any] = {f"carry_{i}": np.asarray(leaf) for i, leaf in enumerate(start)}
    np.savez(out / "start.npz", **carry)
    wanted, given = described(model)
    (out / "act.py").write_text(ACT.replace("WANTED", wanted).replace("GIVEN", given))
    inputs = inputs_like(model, 20)
    said, asked = runpy.run_path(str(out / "act.py"))["act"](inputs), predict(model, inputs)
    return float(np.max(np.abs((said if asked.ndim == 3 else said[:, -1]) - asked)))


def acting(model: Trained) -> tuple[Callable[..., Any], list[jax.Array]]:
    """One tick as a function of arrays, (carry, x [B, I] or tokens [B]) -> (carry, y [B, O]), weights inside;
    and the carry of one sequence before its first tick.

    Raises:
        ValueError: for a model whose output at a tick needs others than that one and those before.
    """
    module, params = model.module, model.params["params"]
    if not isinstance(module, Model):
        raise ValueError(f"model: expected layers of cells, got {type(module).__name__}.")
    cell = module.cell
    if module.pooling not in ("every", "last"):
        raise ValueError(f"pooling: expected every or last, got {module.pooling}, which needs all ticks.")
    if looks_ahead(cell):
        raise ValueError("bidirectional: expected a model that reads forward, got one that needs the future.")

    def read(x: jax.Array) -> jax.Array:
        if module.tokens is None:
            return x
        if module.embedding is None:
            return jax.nn.one_hot(x, module.tokens)
        return jnp.asarray(params["Embed_0"]["embedding"])[x]

    own, head = params["RNN_0"]["cell"], params["Dense_0"]
    like = read(jnp.asarray(inputs_like(model, 1)[:, 0]))
    weights = cell.prepare(own, like=like[0])
    start, form = jax.tree.flatten(cell.initial_carry(own, (1,), like=like[0]))

    def tick(carry: list[jax.Array], x: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        after, states = cell.tick(weights, jax.tree.unflatten(form, carry), read(x))
        return jax.tree.leaves(after), states @ head["kernel"] + head["bias"]

    return tick, start


def looks_ahead(cell: rnncells.Cell) -> bool:
    """Whether it, or a cell in it, reads the future."""
    return isinstance(cell, rnncells.Bidirectional) or any(map(looks_ahead, cell.children.values()))


def inputs_like(model: Trained, ticks: int) -> np.ndarray:
    """Two sequences that the model takes, [2, T, I] or tokens [2, T]."""
    rng, known = np.random.default_rng(0), getattr(model.task, "tokens", None)
    if known is not None:
        return rng.integers(0, known, (2, ticks)).astype(np.int32)
    return rng.normal(size=(2, ticks, model.task.input_size)).astype(np.float32)


def symbolic(start: list[jax.Array], example: np.ndarray) -> tuple[list[Any], Any]:
    """Carry and input of a tick, for any number of sequences."""
    (many,) = jax.export.symbolic_shape("b")
    carry = [jax.ShapeDtypeStruct((many, *leaf.shape[1:]), leaf.dtype) for leaf in start]
    return carry, jax.ShapeDtypeStruct((many, *example.shape[2:]), example.dtype)


def described(model: Trained) -> tuple[str, str]:
    """Inputs and outputs, in words."""
    known, task = getattr(model.task, "tokens", None), model.task
    wanted = f"floats [N, T, {task.input_size}]" if known is None else f"ints below {known}, [N, T]"
    last = isinstance(model.module, Model) and model.module.pooling == "last"
    when = "after each tick, as if the sequence ended there" if last else "of each tick"
    return wanted, f"floats [N, T, {task.output_size}], {when}"


if __name__ == "__main__":
    main(tyro.cli(Config))
