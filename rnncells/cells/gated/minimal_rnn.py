"""The minimal recurrent network."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Params, Weights
from rnncells.fields import number
from rnncells.initializers import ForgetBias, Glorot, Initializer, scheme
from rnncells.parts.arithmetic import dense
from rnncells.parts.gated import GatedCell


class _Drive(NamedTuple):
    latent: jax.Array
    gate: jax.Array


class MinimalRNN(GatedCell):
    """Minimal recurrent network: the state is an average of latent inputs, and stays in their space.

        z = tanh(x W + b_z)
        u = s(h U + z V + b_u)
        h' = u h + (1 - u) z,    y = h'

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], latent_kernel V and recurrent_kernel U [H, H], bias
    b [2H] in the order z, u.

    Args:
        features: H.
        forget_bias: initial b_u, 1 by default; a number, an array [H], or `Chrono(t_max)`, `UniformGate()`.
        kernel_init, latent_init, recurrent_init: Glorot uniform, Glorot uniform and orthogonal.
        bias_init, use_bias: zeros by default; without biases, forget_bias has no place.

    Source: Chen 2017, arXiv 1711.06788, where tanh(x W + b_z) may be any network: put one in front.
    """

    paper = "Chen 2017, arXiv 1711.06788"
    gates = ("z", "u")
    input_gates = ("z",)
    recurrent_gates = ("u",)
    keep = "u"

    forget_bias: ForgetBias = number(default=1.0)
    latent_init: Initializer = scheme(Glorot(), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, latent_key = jax.random.split(key)
        latent = self.latent_init(latent_key, (self.features, self.features), dtype)
        return {**super().init(key, input_size, dtype), "latent_kernel": latent}

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> _Drive:
        bias = self.split_bias(weights)
        latent = jnp.tanh(dense(x, weights["kernel"], bias.get("z")))
        return _Drive(latent, dense(latent, weights["latent_kernel"], bias.get("u")))

    def step(self, weights: Weights, carry: jax.Array, drive: _Drive) -> tuple[jax.Array, jax.Array]:
        u = jax.nn.sigmoid(drive.gate + dense(carry, weights["recurrent_kernel"]))
        hidden = u * carry + (1 - u) * drive.latent
        return hidden, hidden
