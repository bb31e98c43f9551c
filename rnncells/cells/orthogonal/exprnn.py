"""An orthogonal recurrent network through the matrix exponential."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator
from rnncells.fields import choice
from rnncells.initializers import He, Initializer, scheme
from rnncells.parts.orthogonal import ModReLUCell, cayley_angles, skew, turning_blocks


class ExpRNN(ModReLUCell):
    """expRNN: the recurrent kernel is exp(K) with K skew-symmetric, orthogonal whatever is trained.

        U = exp(K),    K = A - A^T,    A strictly upper triangular
        h' = modrelu_b(x W + h U),    y = h'
        modrelu_b(z) = relu(|z| + b) z / |z|

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], skew [H (H - 1) / 2] (the entries of A, row by
    row), bias b [H]. `prepare` returns `recurrent_kernel` U [H, H] in place of `skew`: the exponential is
    taken once per sequence, in float32 or wider.

    Args:
        features: H.
        skew_init: K starts block-diagonal with blocks [[0, s], [-s, 0]]; "henaff" (the default):
            s ~ U(-pi, pi); "cayley": s = -tan(t / 2), t ~ U(0, pi / 2). An odd last unit starts fixed.
        kernel_init: He normal.

    b starts U(-0.01, 0.01). The authors train skew with a tenth of the learning rate of the rest.

    Source: Lezcano-Casado & Martinez-Rubio 2019, arXiv 1901.08428. exp reaches rotations only
    (det U = 1). Deviations: |z| is sqrt(z^2 + 1e-8), which makes modrelu continuous (the authors'
    code takes sign(z) relu(|z| + b)); the change of base of the dynamic trivialisations (arXiv
    1909.09501) is a training procedure and is not part of the cell.
    """

    paper = "Lezcano-Casado & Martinez-Rubio 2019, arXiv 1901.08428"

    skew_init: str = choice("henaff", "cayley", default="henaff")
    kernel_init: Initializer = scheme(He())

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        kernel_key, skew_key, bias_key = jax.random.split(key, 3)
        size = self.features
        if self.skew_init == "henaff":
            angles = jax.random.uniform(skew_key, (size // 2,), dtype, -np.pi, np.pi)
        else:
            angles = cayley_angles(skew_key, size // 2, dtype)
        return {
            "kernel": self.kernel_init(kernel_key, (input_size, size), dtype),
            "skew": turning_blocks(angles, size),
            "bias": jax.random.uniform(bias_key, (size,), dtype, -0.01, 0.01),
        }

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        entries = params["skew"]
        wide = entries.astype(accumulator(entries.dtype))  # no solve in half precision
        kernel = jax.scipy.linalg.expm(skew(wide, self.features))
        return {
            "kernel": params["kernel"],
            "recurrent_kernel": kernel.astype(entries.dtype),
            "bias": params["bias"],
        }
