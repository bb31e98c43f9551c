"""The antisymmetric recurrent network, with and without a gate."""

from __future__ import annotations

from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.fields import Number, number
from rnncells.initializers import ForgetBias, Initializer, LeCun, scheme
from rnncells.parts.arithmetic import constant, dense, split_gates
from rnncells.parts.gated import ProjectedCell
from rnncells.parts.orthogonal import skew


class AntisymmetricRNN(ProjectedCell):
    """AntisymmetricRNN: an Euler step of a differential equation whose Jacobian is nearly antisymmetric.

        M = A - A^T - gamma I,    A strictly upper triangular
        h' = h + dt tanh(x W + h M + b),    y = h'

    The eigenvalues of M are -gamma plus something imaginary, whatever is trained, so that the state neither
    explodes nor dies out; gamma makes up for what a step of finite length adds.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], skew [H (H - 1) / 2] (the entries of A, row by
    row), bias b [H]. `prepare` returns `recurrent_kernel` M [H, H] in place of `skew`.

    Args:
        features: H.
        dt: the step, the paper's epsilon; 0.01 by default. The paper tries 0.01 to 1.
        gamma: the diffusion, 0.01 by default.
        skew_std: the entries of A start N(0, skew_std^2 / H); 1 by default.
        kernel_init: N(0, 1 / I).
        bias_init, use_bias: zeros by default; without, b is left out.

    Source: Chang, Chen, Haber & Chi 2019, arXiv 1902.09689. dt, gamma and the scale of A are tuned there for
    each task; no code of the authors is public.
    """

    paper = "Chang, Chen, Haber & Chi 2019, arXiv 1902.09689"
    gates: ClassVar[tuple[str, ...]] = ("h",)

    dt: Number = number(default=0.01, low=0.0)
    gamma: Number = number(default=0.01, low=0.0)
    skew_std: Number = number(default=1.0, low=0.0)
    kernel_init: Initializer = scheme(LeCun(), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, skew_key = jax.random.split(key)
        size = self.features
        entries = jax.random.normal(skew_key, (size * (size - 1) // 2,), dtype) * size**-0.5
        entries = entries * jnp.asarray(self.skew_std, dtype)
        return super().init(key, input_size, dtype) | {"skew": entries}

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        turning = skew(params["skew"], self.features)
        fading = constant(self.gamma, turning) * jnp.eye(self.features, dtype=turning.dtype)
        kept = {name: leaf for name, leaf in params.items() if name != "skew"}
        return kept | {"recurrent_kernel": turning - fading}

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        slope = jnp.tanh(drive + dense(carry, weights["recurrent_kernel"]))
        hidden = carry + constant(self.dt, carry) * slope
        return hidden, hidden


class GatedAntisymmetricRNN(AntisymmetricRNN):
    """AntisymmetricRNN with a gate on every step, which shares the recurrent kernel with it.

        M = A - A^T - gamma I,    A strictly upper triangular
        z = s(x W_z + h M + b_z)
        h' = h + dt z tanh(x W_h + h M + b_h),    y = h'

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 2H] and bias b [2H], gates in the order h, z; skew
    [H (H - 1) / 2]. `prepare` returns `recurrent_kernel` M [H, H] in place of `skew`.

    Args:
        features, dt, gamma, skew_std, kernel_init, bias_init, use_bias: as AntisymmetricRNN.
        forget_bias: initial -b_z, 0 by default: a closed gate keeps the state.

    Source: Chang, Chen, Haber & Chi 2019, arXiv 1902.09689.
    """

    gates = ("h", "z")
    write = "z"

    forget_bias: ForgetBias = number(default=0.0)

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        x_h, x_z = split_gates(drive, 2)
        turned = dense(carry, weights["recurrent_kernel"])
        slope = jax.nn.sigmoid(x_z + turned) * jnp.tanh(x_h + turned)
        hidden = carry + constant(self.dt, carry) * slope
        return hidden, hidden
