"""An orthogonal recurrent network through the scaled Cayley transform."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator
from rnncells.fields import static
from rnncells.initializers import Initializer, UniformWithin, scheme
from rnncells.parts.orthogonal import ModReLUCell, cayley, cayley_angles, skew, turning_blocks


class ScoRNN(ModReLUCell):
    """scoRNN: the recurrent kernel is a scaled Cayley transform, orthogonal whatever is trained.

        U = (I + K)^-1 (I - K) D,    K = A - A^T,    A strictly upper triangular,    D = diag(1 ... -1)
        h' = modrelu_b(x W + U h),    y = h'
        modrelu_b(z) = relu(|z| + b) z / |z|

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], skew [H (H - 1) / 2] (the entries of A, row by
    row), bias b [H]. `prepare` returns `recurrent_kernel` U^T [H, H] in place of `skew`: the system is solved
    once per sequence, in float32 or wider.

    Args:
        features: H.
        negatives: how many of the last entries of D are -1; H // 2 by default, as in the paper's copying and
            adding tasks, for others it is tuned. With as many, every orthogonal U of the sign
            det U = (-1)^negatives is a limit of what is trained.
        kernel_init: U(-0.01, 0.01).

    K starts block-diagonal with blocks [[0, s], [-s, 0]], s = -tan(t / 2), t ~ U(0, pi / 2); an odd last unit
    starts fixed. b starts at zero. The authors train skew with a tenth of the learning rate of the rest.

    Source: Helfrich, Willmott & Ye 2018, arXiv 1707.09520; initial values from the authors' code. Deviation:
    |z| is sqrt(z^2 + 1e-8), which makes modrelu continuous (see `ExpRNN`).
    """

    paper = "Helfrich, Willmott & Ye 2018, arXiv 1707.09520"

    negatives: int | None = static(default=None)
    kernel_init: Initializer = scheme(UniformWithin(0.01), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negatives is None:
            return
        if checks.count("ScoRNN.negatives", self.negatives) > self.features:
            raise ValueError(
                f"ScoRNN.negatives: expected at most {self.features}, one for each unit, got"
                f" {self.negatives}."
            )

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        kernel_key, skew_key = jax.random.split(key)
        size = self.features
        return {
            "kernel": self.kernel_init(kernel_key, (input_size, size), dtype),
            "skew": turning_blocks(cayley_angles(skew_key, size // 2, dtype), size),
            "bias": jnp.zeros((size,), dtype),
        }

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        entries, size = params["skew"], self.features
        negatives = size // 2 if self.negatives is None else self.negatives
        wide = entries.astype(accumulator(entries.dtype))  # no solve in half precision
        signs = jnp.asarray(np.where(np.arange(size) < size - negatives, 1.0, -1.0), wide.dtype)
        kernel = (cayley(skew(wide, size)) * signs[None]).T
        return {
            "kernel": params["kernel"],
            "recurrent_kernel": kernel.astype(entries.dtype),
            "bias": params["bias"],
        }
