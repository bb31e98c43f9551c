"""Labels of sequences without their times: what outputs say (CTC), and how many labels are wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def losses(logits: jax.Array, lengths: jax.Array, labels: jax.Array) -> jax.Array:
    """Connectionist temporal classification (Graves et al. 2006), nats of each sequence, [B].

    Args:
        logits: [T, B, C]; class 0 is the blank.
        lengths: int [B].
        labels: int [B, N], 0 after the last.
    """
    absent = ~existing(lengths, len(logits)).T
    paddings = [padding.astype(logits.dtype) for padding in (absent, labels == 0)]
    return optax.ctc_loss(logits.swapaxes(0, 1), paddings[0], labels, paddings[1])


def path(logits: jax.Array, lengths: jax.Array) -> jax.Array:
    """Greedy decoding: the best label of each tick, int [T, B], where it begins; 0 elsewhere."""
    best = jnp.where(existing(lengths, len(logits)), jnp.argmax(logits, -1), 0)
    return jnp.where(best == jnp.pad(best, ((1, 0), (0, 0)))[:-1], 0, best)


def edits(path: jax.Array, labels: jax.Array) -> jax.Array:
    """Insertions, deletions and substitutions, int [B], between a path [T, B] and labels [B, N]; zeros are
    nothing, those of labels at the end."""
    columns = jnp.arange(labels.shape[1] + 1)

    def row(before: jax.Array, said: jax.Array) -> tuple[jax.Array, None]:
        other = before[:, :-1] + (labels != said[:, None])
        after = jnp.concatenate([before[:, :1] + 1, jnp.minimum(other, before[:, 1:] + 1)], 1)
        after = jax.lax.cummin(after - columns, axis=1) + columns  # labels that are missing
        return jnp.where(said[:, None] > 0, after, before), None

    start = jnp.broadcast_to(columns, (len(labels), len(columns)))
    last, _ = jax.lax.scan(row, start, path)
    return jnp.take_along_axis(last, jnp.sum(labels > 0, 1, keepdims=True), 1)[:, 0]


def existing(lengths: jax.Array, ticks: int) -> jax.Array:
    """bool [T, B]: the ticks that there are."""
    return jnp.arange(ticks)[:, None] < lengths
