"""The shuffling network: a permutation in the place of a recurrent kernel."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Cell, Params, Weights
from rnncells.fields import static
from rnncells.parts.arithmetic import dense


class ShufflingRNN(Cell):
    """Shuffling recurrent network: the state moves on by one place and is added to; nothing of the recurrence
    is learned.

        e_1 = relu(x V_1 + c_1)      e_l = relu(e_(l-1) V_l + c_l)
        b = (e_L V_o + c_o) s(x W + a)
        h' = relu(roll(h) + b),    y = h'

    with s the logistic function and roll(h)_i = h_(i-1), cyclic: the derivative of h' by h is a permutation
    with some rows zero, of norm 0 or 1 whatever is trained.

    Shapes: x [..., I], h and y [..., H]; kernel V_1 [I, N] and bias c_1 [N]; layer_2 ... layer_L with kernel
    V_l [N, N] and bias c_l [N]; output_kernel V_o [N, H] and output_bias c_o [H]; gate_kernel W [I, H] and
    gate_bias a [H].

    Args:
        features: H.
        width: N, 64.
        layers: L, the layers that read the input, 1.
        gated: whether the factor s(x W + a) is there.
        shift: by how many places the state moves, 1.

    Kernels and biases start U(-1/sqrt(n), 1/sqrt(n)) with n the rows of the kernel, as in the authors' code
    (PyTorch's `Linear`).

    Source: Rotman & Wolf 2021, arXiv 2007.07324. The paper allows every permutation; its code, and this cell,
    shift.
    """

    paper = "Rotman & Wolf 2021, arXiv 2007.07324"
    gates = ("h",)

    features: int = static(check=checks.positive_int)
    width: int = static(default=64, check=checks.positive_int)
    layers: int = static(default=1, check=checks.positive_int)
    gated: bool = static(default=True)
    shift: int = static(default=1, check=checks.positive_int)

    def block(self, kernel: str) -> int:
        return self.width

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        def layer(key: chex.PRNGKey, rows: int, columns: int) -> tuple[jax.Array, jax.Array]:
            keys = jax.random.split(key)
            kernel, bias = (
                jax.random.uniform(k, shape, dtype, -(rows**-0.5), rows**-0.5)
                for k, shape in zip(keys, ((rows, columns), (columns,)), strict=True)
            )
            return kernel, bias

        output_key, gate_key, *keys = jax.random.split(key, self.layers + 2)
        params: Params = {}
        params["kernel"], params["bias"] = layer(keys[0], input_size, self.width)
        for i, deeper in enumerate(keys[1:], 2):
            kernel, bias = layer(deeper, self.width, self.width)
            params[f"layer_{i}"] = {"kernel": kernel, "bias": bias}
        params["output_kernel"], params["output_bias"] = layer(output_key, self.width, self.features)
        if self.gated:
            params["gate_kernel"], params["gate_bias"] = layer(gate_key, input_size, self.features)
        return params

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        seen = jax.nn.relu(dense(x, weights["kernel"], weights["bias"]))
        for i in range(2, self.layers + 1):
            own = weights[f"layer_{i}"]
            seen = jax.nn.relu(dense(seen, own["kernel"], own["bias"]))
        drive = dense(seen, weights["output_kernel"], weights["output_bias"])
        if not self.gated:
            return drive
        return drive * jax.nn.sigmoid(dense(x, weights["gate_kernel"], weights["gate_bias"]))

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = jax.nn.relu(jnp.roll(carry, self.shift, -1) + drive)
        return hidden, hidden
