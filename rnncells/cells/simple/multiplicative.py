"""The multiplicative recurrent network: the input chooses the recurrent kernel."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Params, Weights
from rnncells.fields import static
from rnncells.initializers import Glorot, Initializer, Orthogonal, scheme
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import dense
from rnncells.parts.gated import DenseCell


class MultiplicativeRNN(DenseCell):
    """Multiplicative recurrent network: a recurrent kernel for every input, in factors.

        m = (x W_f) (h U_f)
        h' = act(x W + m U + b),    y = h'

    It is an `Elman` whose recurrent kernel is U_f diag(x W_f) U.

    Shapes: x [..., I], h and y [..., H], m [..., F]; kernel W [I, H], recurrent_kernel U_f [H, F], bias b
    [H], factor_kernel W_f [I, F], mixing_kernel U [F, H].

    Args:
        features: H.
        factors: F; H by default.
        activation: act, "tanh".
        kernel_init, factor_init, recurrent_init, mixing_init: of W, W_f, U_f and U; the paper trains by
            another method, and these are Glorot uniform for what reads the input, orthogonal for the rest.
        bias_init, use_bias: zeros by default; without, b is left out.

    Source: Sutskever, Martens & Hinton 2011, Generating text with recurrent neural networks, ICML.
    """

    paper = "Sutskever, Martens & Hinton 2011, ICML"
    gates = ("h",)

    factors: int | None = static(
        default=None, check=lambda name, value: value is None or checks.positive_int(name, value)
    )
    activation: Activation = activation("tanh")
    factor_init: Initializer = scheme(Glorot(), kw_only=True)
    mixing_init: Initializer = scheme(Orthogonal(), kw_only=True)

    def block(self, kernel: str) -> int:
        return self.features if kernel == "kernel" else self.factors or self.features

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, factor_key, mixing_key = jax.random.split(key, 3)
        factors = self.block("factor_kernel")
        return super().init(key, input_size, dtype) | {
            "factor_kernel": self.factor_init(factor_key, (input_size, factors), dtype),
            "mixing_kernel": self.mixing_init(mixing_key, (factors, self.features), dtype),
        }

    def project(
        self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None
    ) -> tuple[jax.Array, jax.Array]:
        return super().project(weights, x), dense(x, weights["factor_kernel"])

    def step(
        self, weights: Weights, carry: jax.Array, drive: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        seen, factor = drive
        mixed = factor * dense(carry, weights["recurrent_kernel"])
        hidden = self.activation(seen + dense(mixed, weights["mixing_kernel"]))
        return hidden, hidden
