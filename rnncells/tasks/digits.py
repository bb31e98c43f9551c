"""Small images, one pixel at a time."""

from __future__ import annotations

import functools
import operator
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rnncells import checks
from rnncells.fields import choice, static
from rnncells.tasks.base import Batch
from rnncells.tasks.scores import Classification


class Parts(NamedTuple):
    """Finite data, divided. Each part is all its N sequences, batch-major, on the host."""

    train: Batch
    validation: Batch
    test: Batch


class SequentialDigits(Classification):
    """Sequential digits: which digit is an image of 8 x 8 pixels that is read one pixel at a time?

    1797 grey images (scikit-learn's bundled data), pixels in [0, 1], classes 0 to 9, asked at the last tick.
    The parts are the first 1197 images for training, the next 300 for validation and the last 300 for the
    test, not shuffled: images of one writer lie together, so that hardly a writer is in two parts. `sample`
    draws from the training part, with repetition.

    This is a small stand-in that needs no download; its scores are not those of sequential MNIST.

    Variants:
        plain: row by row.
        permuted: in one fixed random order, the same for all images.

    Shapes: inputs [length, B, 1], targets int32 [length, B], mask True at the last tick, 10 logits.

    Args:
        length: pixels that are read, the first ones of the order, at most 64.
        variant: as above.

    Source: images by Alpaydin & Kaynak 1998, doi 10.24432/C50P49; the task after Le, Jaitly & Hinton 2015,
    arXiv 1504.00941, who read MNIST. Solved: an accuracy of 95%.

    Raises:
        ModuleNotFoundError: in `sample`, `parts` and `baseline`, where scikit-learn is not installed.
    """

    length: int = static(default=64, check=checks.positive_int)
    variant: str = choice("plain", "permuted", default="plain")

    input_size = 1
    output_size = 10
    naive = "last pixel"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length > 64:
            raise ValueError(f"SequentialDigits.length: expected at most 64 pixels, got {self.length}.")

    @property
    def parts(self) -> Parts:
        """All images, divided: inputs [N, length, 1], targets [N, length], mask [N, length]."""
        pixels, digits = images()
        order = np.random.default_rng(0).permutation(64) if self.variant == "permuted" else np.arange(64)
        inputs = pixels[:, order[: self.length], None]
        mask = np.broadcast_to(np.arange(self.length) == self.length - 1, inputs.shape[:2])
        whole = inputs, np.where(mask, digits[:, None], 0), mask
        cuts = slice(0, 1197), slice(1197, 1497), slice(1497, None)
        return Parts(*[Batch(*jax.tree.map(operator.itemgetter(cut), whole)) for cut in cuts])

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        """Batch of inputs [length, B, 1], targets [length, B], mask [length, B] from the training part."""
        train = self.parts.train
        drawn = jax.random.randint(key, (batch_size,), 0, len(train.mask))
        return jax.tree.map(lambda array: jnp.swapaxes(jnp.asarray(array)[drawn], 0, 1), train)

    @property
    def baseline(self) -> float:
        """Accuracy of the best digit for each of the 17 values of the last pixel, counted over all images."""
        parts = self.parts
        last = np.concatenate([part.inputs[:, -1, 0] for part in parts])
        digits = np.concatenate([part.targets[:, -1] for part in parts])
        counts = np.zeros((17, 10))
        np.add.at(counts, (np.rint(16 * last).astype(int), digits), 1)
        return float(counts.max(1).sum() / counts.sum())

    def solved(self, metrics: dict[str, Any]) -> Any:
        """An accuracy of 95%."""
        return metrics["accuracy"] >= 0.95


@functools.cache
def images() -> tuple[np.ndarray, np.ndarray]:
    """float32 pixels [1797, 64] in [0, 1], int32 digits [1797]."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "scikit-learn is not installed: `pip install scikit-learn` for the images of SequentialDigits."
        ) from error
    pixels, digits = load_digits(return_X_y=True)
    return (pixels / 16).astype(np.float32), digits.astype(np.int32)
