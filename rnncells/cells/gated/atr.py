"""The addition-subtraction twin-gated recurrent unit."""

from __future__ import annotations

import jax

from rnncells.cell import Weights
from rnncells.fields import static
from rnncells.initializers import Initializer, UniformWithin, scheme
from rnncells.parts.arithmetic import dense
from rnncells.parts.gated import DenseCell


class ATR(DenseCell):
    """Twin-gated recurrent unit: two gates that are the sum and the difference of two products.

        p = x W + b      q = h U
        i = s(p + q)     f = s(p - q)
        h' = i p + f h,    y = h'

    Nothing squashes the state: i and f may both be open.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], recurrent_kernel U [H, H], bias b [H].

    Args:
        features: H.
        kernel_init, recurrent_init: U(-.08, .08), as the authors' code for language models.
        bias_init, use_bias: no bias by default, as in the paper.

    Source: Zhang, Xiong, Su, Lin & Zhang 2018, arXiv 1810.12546. In that code, in PyTorch, p and q have a
    bias each; in the authors' TensorFlow cell neither has.
    """

    paper = "Zhang, Xiong, Su, Lin & Zhang 2018, arXiv 1810.12546"
    gates = ("p",)

    kernel_init: Initializer = scheme(UniformWithin(0.08), kw_only=True)
    recurrent_init: Initializer = scheme(UniformWithin(0.08), kw_only=True)
    use_bias: bool = static(default=False, kw_only=True)

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        q = dense(carry, weights["recurrent_kernel"])
        hidden = jax.nn.sigmoid(drive + q) * drive + jax.nn.sigmoid(drive - q) * carry
        return hidden, hidden
