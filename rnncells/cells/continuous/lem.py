"""Long expressive memory."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import dtype_of
from rnncells.fields import Number, number
from rnncells.initializers import Initializer, Uniform, scheme
from rnncells.parts.arithmetic import constant, dense, split_gates
from rnncells.parts.gated import GatedCell
from rnncells.parts.integrators import relax


class LEMCarry(NamedTuple):
    """`y, z = carry`: the hidden state and the memory, both [..., H]."""

    y: jax.Array
    z: jax.Array


class LEM(GatedCell):
    """Long expressive memory: two coupled states, with time scales that each unit learns from the data.

        p = dt s(x W_p + y U_p + b_p)      q = dt s(x W_q + y U_q + b_q)
        z' = (1 - p) z + p tanh(x W_z + y U_z + b_z)
        y' = (1 - q) y + q tanh(x W_y + z' V + b_y)

    An implicit-explicit step of a system of differential equations: y' reads the new z'.

    Shapes: x [..., I], carry `LEMCarry(y, z)` of two [..., H], output y' [..., H]; kernel W [I, 4H] and bias
    b [4H], gates in the order p, q, z, y; recurrent_kernel U [H, 3H], of p, q and z; memory_kernel V [H, H].

    Args:
        features: H.
        dt: the longest step, 1 by default. The authors tune it for some tasks: 0.0242 for the adding problem.
        forget_bias: what b_p starts lower than it is drawn, 0 by default: a closed p keeps the memory.
        kernel_init, recurrent_init, bias_init: U(-a, a) with a = H^(-1/2), as the authors' code.
        use_bias: without, b is left out.

    Source: Rusch, Mishra, Erichson & Mahoney 2022, arXiv 2110.04744. The authors' PyTorch code has three
    biases where the sum of them is b.
    """

    paper = "Rusch, Mishra, Erichson & Mahoney 2022, arXiv 2110.04744"
    gates = ("p", "q", "z", "y")
    recurrent_gates = ("p", "q", "z")
    write = "p"

    dt: Number = number(default=1.0, low=0.0)
    kernel_init: Initializer = scheme(Uniform(), kw_only=True)
    recurrent_init: Initializer = scheme(Uniform(), kw_only=True)
    bias_init: Initializer = scheme(Uniform(), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, memory_key = jax.random.split(key)
        memory = self.recurrent_init(memory_key, (self.features, self.features), dtype)
        return super().init(key, input_size, dtype) | {"memory_kernel": memory}

    def initial_carry(self, params: Params = None, batch_shape: Shape = (), like: Like = None) -> LEMCarry:
        shape, dtype = (*batch_shape, self.features), dtype_of(params, like)
        return LEMCarry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def step(self, weights: Weights, carry: LEMCarry, drive: jax.Array) -> tuple[LEMCarry, jax.Array]:
        y, z = carry
        size, dt = self.features, constant(self.dt, y)
        fused = drive[..., : 3 * size] + dense(y, weights["recurrent_kernel"])
        p, q, candidate = split_gates(fused, 3)
        z = relax(z, jnp.tanh(candidate), dt * jax.nn.sigmoid(p))
        candidate = drive[..., 3 * size :] + dense(z, weights["memory_kernel"])
        y = relax(y, jnp.tanh(candidate), dt * jax.nn.sigmoid(q))
        return LEMCarry(y, z), y
