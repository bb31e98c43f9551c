"""An orthogonal recurrent network through Householder reflections."""

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
from rnncells.parts.activations import Activation, LeakyReLU, activation
from rnncells.parts.arithmetic import dense
from rnncells.parts.gated import ProjectedCell
from rnncells.parts.orthogonal import reflection_product


class HouseholderRNN(ProjectedCell):
    """oRNN: the recurrent kernel is a product of Householder reflections, orthogonal whatever is trained.

        U = R_1 R_2 ... R_M,    R_k = I - 2 v_k v_k^T / |v_k|^2,    the first k - 1 entries of v_k zero
        h' = act(x W + U h + b),    y = h'

    H reflections reach every orthogonal U of one sign, det U = (-1)^M.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], bias b [H], vectors: the entries of v_1, v_2, ...
    from the k-th on, one after the other. A v_H has one entry, which scales nothing: R_H turns the sign of
    the last unit and has no parameter. `prepare` returns `recurrent_kernel` U^T [H, H] in place of `vectors`,
    multiplied out once per sequence, in float32 or wider.

    Args:
        features: H.
        reflections: M, from 1 to H; H by default, but at most 32.
        activation: act, `LeakyReLU(0.1)` by default.
        kernel_init: Glorot uniform.
        bias_init, use_bias: zeros by default; without, b is left out.

    v_k start with independent directions, each uniform.

    Source: Mhammedi, Hellicar, Rahman & Bailey 2017, arXiv 1612.00188. Deviations: for M = H the paper lets
    the sign of the last unit be +1 or -1, here it is -1; the authors' code scales v_k to length 1 after every
    step of their optimiser, here no length has an effect; the first state, which they train, is zero:
    `LearnedCarry` trains it.
    """

    paper = "Mhammedi, Hellicar, Rahman & Bailey 2017, arXiv 1612.00188"
    gates = ("h",)

    reflections: int | None = static(default=None)
    activation: Activation = activation(LeakyReLU(0.1))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reflections is None:
            return
        if checks.positive_int("HouseholderRNN.reflections", self.reflections) > self.features:
            raise ValueError(
                f"HouseholderRNN.reflections: expected at most {self.features}, one for each unit, got"
                f" {self.reflections}."
            )

    @property
    def _count(self) -> int:
        """M."""
        return min(self.features, 32) if self.reflections is None else self.reflections

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, *keys = jax.random.split(key, 1 + self._trained)
        drawn = [jax.random.normal(k, (self.features - i,), dtype) for i, k in enumerate(keys)]
        vectors = [vector / jnp.linalg.norm(vector) for vector in drawn]
        flat = jnp.concatenate(vectors) if vectors else jnp.zeros((0,), dtype)
        return super().init(key, input_size, dtype) | {"vectors": flat}

    @property
    def _trained(self) -> int:
        """How many reflections have parameters."""
        return min(self._count, self.features - 1)

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        kept = {name: leaf for name, leaf in params.items() if name != "vectors"}
        flat, size = params["vectors"], self.features
        wide = flat.astype(accumulator(flat.dtype))  # no solve in half precision
        vectors = jnp.zeros((self._count, size), wide.dtype)
        vectors = vectors.at[np.triu_indices(self._trained, 0, size)].set(wide)
        if self._trained < self._count:
            vectors = vectors.at[-1, -1].set(1)
        return kept | {"recurrent_kernel": reflection_product(vectors).T.astype(flat.dtype)}

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = self.activation(drive + dense(carry, weights["recurrent_kernel"]))
        return hidden, hidden
