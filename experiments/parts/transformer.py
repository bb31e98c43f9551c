"""A small transformer, as a reference beside recurrent models."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class Transformer(nn.Module):
    """Causal self-attention and two dense layers, some blocks of both, each after a normalisation, on inputs
    [B, T, I] or tokens [B, T] with sines of their places added (Vaswani et al. 2017, arXiv 1706.03762)."""

    output_size: int
    features: int
    hidden: int
    tokens: int | None = None
    blocks: int = 2
    heads: int = 4

    @classmethod
    def of(cls, budget: int, hidden: int, output_size: int, tokens: int | None) -> Transformer:
        """About as wide as blocks of four times as many hidden units would be."""
        heads = cls.heads
        features = heads * max(1, round((budget / (12 * cls.blocks)) ** 0.5 / heads))
        return cls(output_size, features, hidden, tokens)

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        read = nn.Dense(self.features) if self.tokens is None else nn.Embed(self.tokens, self.features)
        x = read(inputs)
        x += places(x.shape[1], self.features)
        mask = nn.make_causal_mask(x[..., 0])
        for _ in range(self.blocks):
            x += nn.MultiHeadDotProductAttention(self.heads)(nn.LayerNorm()(x), mask=mask)
            x += nn.Dense(self.features)(nn.gelu(nn.Dense(self.hidden)(nn.LayerNorm()(x))))
        return nn.Dense(self.output_size)(nn.LayerNorm()(x))


def places(ticks: int, features: int) -> jax.Array:
    """[T, features]: sines and cosines, from one radian a tick to a ten thousandth of it."""
    rates = 10_000.0 ** (-jnp.arange(features // 2) / (features // 2))
    angles = jnp.arange(ticks)[:, None] * rates
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
