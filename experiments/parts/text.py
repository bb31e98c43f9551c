"""Text: files of it, its symbols, and more of it from a model that has learned them."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np

import rnncells
from experiments.harness import csv_file
from experiments.harness.encoding import UNKNOWN, Vocabulary
from experiments.harness.model import Model
from experiments.harness.trained import Trained

Level = Literal["character", "word"]

WORDS = re.compile(r"\w+|\n\n|\f|[^\w\s]")
CLINGING = re.compile(r" ?(\n\n|\f) ?| (?=[,.;:!?)\]}])|(?<=[(\[{]) | ?([-’]) ?")
QUOTED = re.compile(r'" ([^"]*) "')


def read(file: pathlib.Path) -> str:
    """The text of a file.

    Raises:
        ValueError: where it cannot be read, or holds none.
    """
    text = csv_file.text(file).replace("\r\n", "\n")
    if not text.strip():
        raise ValueError(f"{file}: expected text, found none.")
    return text


def symbols(text: str, level: Level) -> list[str]:
    """Characters; or words, signs, and the ends of paragraphs and documents."""
    return list(text) if level == "character" else WORDS.findall(re.sub(r"\n\n+", "\n\n", text))


def joined(symbols: Iterable[str], level: Level) -> str:
    """Symbols as text; words with the spaces that signs commonly have."""
    if level == "character":
        return "".join(symbols)
    closer = CLINGING.sub(lambda match: match[1] or match[2] or "", " ".join(symbols))
    return QUOTED.sub(r'"\1"', closer)


class Silent(rnncells.wrappers.Wrapper):
    """A cell as in evaluation, whatever key is given."""

    paper = "none"

    def prepare(self, params: Any, key: Any = None, batch_shape: Any = (), like: Any = None) -> Any:
        return self.cell.prepare(params, None, batch_shape, like=like)

    def project(self, weights: Any, x: Any, key: Any = None) -> Any:
        return self.cell.project(weights, x)


def sample(model: Trained, prompt: np.ndarray, length: int, temperature: float, seed: int = 0) -> np.ndarray:
    """What follows a prompt, symbol by symbol from p ** (1 / temperature), ints [length].

    Neither padding nor what is not known is ever drawn.

    Args:
        model: the default one, trained on streams of tokens.
        prompt: ints [P], at least one.
        length: how many symbols.
        temperature: 0 takes the most probable one each time.
        seed: another one gives other symbols.
    """
    module = model.module
    if not isinstance(module, Model) or module.tokens is None:
        raise ValueError(f"model: expected one that reads tokens, got {type(module).__name__}.")
    if not len(prompt):
        raise ValueError("prompt: expected at least one symbol, got none.")
    if length < 1 or temperature < 0:
        name, value, least = ("length", length, 1) if length < 1 else ("temperature", temperature, 0)
        raise ValueError(f"{name}: expected at least {least}, got {value}.")
    cell = Silent(module.cell)

    @jax.jit
    def drawn(params: Any, tokens: jax.Array, key: chex.PRNGKey) -> jax.Array:
        own, readout = params["params"], params["params"]["Dense_0"]
        embedded = "Embed_0" in own
        vectors = own["Embed_0"]["embedding"] if embedded else jnp.eye(module.tokens)

        def feed(y: jax.Array, key: chex.PRNGKey) -> tuple[jax.Array, jax.Array]:
            logits = y @ readout["kernel"] + readout["bias"]
            logits = jnp.where(jnp.arange(logits.shape[-1]) <= UNKNOWN, -jnp.inf, logits)
            if temperature == 0:
                token = jnp.argmax(logits)
            else:
                token = jax.random.categorical(key, logits / temperature)
            return vectors[token], token

        xs, inside = vectors[tokens], own["RNN_0"]["cell"]
        carry = None if len(tokens) == 1 else rnncells.unroll(cell, inside, xs[:-1])[0]
        return rnncells.generate(cell, inside, xs[-1], length, feed, carry, key=key)[1]

    return np.asarray(drawn(model.params, jnp.asarray(prompt), jax.random.key(seed)))


def told(model: Trained, prompt: str, level: Level, length: int, temperature: float, seed: int = 0) -> str:
    """A prompt and what follows it. The prompt is shown as the model reads it: the unknown as unknown."""
    vocabulary = Vocabulary.restored(model.extras["vocabulary"])
    known = vocabulary.encode(symbols(prompt, level))
    following = sample(model, known, length, temperature, seed)
    return joined(vocabulary.decode([*known, *following]), level)
