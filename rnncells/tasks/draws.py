"""What several tasks draw."""

from __future__ import annotations

import chex
import jax


def distinct(
    key: chex.PRNGKey, of: int, count: int, batch_size: int, log_weights: jax.Array | None = None
) -> jax.Array:
    """int32 [count, B]: numbers below `of` without repetition, in the order of their draws; uniform, or one
    after the other with the weights exp(log_weights), [of]: with Gumbel noise the highest is such a draw, and
    the next highest is one from the rest."""
    noise = jax.random.gumbel(key, (batch_size, of))
    if log_weights is not None:
        noise = noise + log_weights[None]
    return jax.lax.top_k(noise, count)[1].T
