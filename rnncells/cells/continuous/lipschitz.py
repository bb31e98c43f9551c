"""The Lipschitz recurrent network."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Cell, Like, Params, Shape, Weights
from rnncells.fields import Number, choice, number, static
from rnncells.initializers import Initializer, LeCun, linear_bias, scheme
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import constant, dense
from rnncells.parts.integrators import explicit


class LipschitzRNN(Cell):
    """Lipschitz recurrent network: a linear part and a Lipschitz nonlinearity, both held near stability.

        S(M, beta, gamma) = (1 - beta) (M + M^T) + beta (M - M^T) - gamma I
        A = S(M_A, beta_a, gamma_a)      U = S(M_U, beta_u, gamma_u)
        dh/dt = h A + act(h U + x W + b),    y = h'

    over a time dt, in one step; by Euler's method h' = h + dt (h A + act(h U + x W + b)). beta decides how
    far A and U are antisymmetric, gamma shifts their eigenvalues to the left.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], linear_matrix M_A and recurrent_matrix M_U [H, H],
    bias b [H]. `prepare` returns `linear_kernel` A and `recurrent_kernel` U in place of the matrices.

    Args:
        features: H.
        dt: the step, the paper's epsilon; 0.03 by default.
        beta_a, beta_u: 0.75 by default.
        gamma_a, gamma_u: 0.001 by default.
        matrix_std: M_A and M_U start N(0, (matrix_std / H)^2); 0.1 by default.
        activation: act, "tanh" by default; any with a Lipschitz constant of 1.
        method: "euler" (the default), "midpoint" or "rk4", of first, second and fourth order.
        kernel_init: U(-a, a) with a = I^(-1/2), from which b is drawn too.

    Source: Erichson, Azencot, Queiruga, Hodgkinson & Mahoney 2021, arXiv 2006.12070; initialisation from the
    authors' code, numbers from its README, where one beta and one gamma serve both matrices.
    """

    paper = "Erichson, Azencot, Queiruga, Hodgkinson & Mahoney 2021, arXiv 2006.12070"
    gates = ("h",)

    features: int = static(check=checks.positive_int)
    dt: Number = number(default=0.03, low=0.0)
    beta_a: Number = number(default=0.75, low=0.0, high=1.0)
    beta_u: Number = number(default=0.75, low=0.0, high=1.0)
    gamma_a: Number = number(default=0.001, low=0.0)
    gamma_u: Number = number(default=0.001, low=0.0)
    matrix_std: Number = number(default=0.1, low=0.0)
    activation: Activation = activation("tanh")
    method: str = choice("euler", "midpoint", "rk4", default="euler")
    kernel_init: Initializer = scheme(LeCun(3**-0.5, "uniform"), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        kernel_key, bias_key, *matrix_keys = jax.random.split(key, 4)
        size = self.features
        std = jnp.asarray(self.matrix_std, dtype) / size
        linear, recurrent = (std * jax.random.normal(k, (size, size), dtype) for k in matrix_keys)
        return {
            "kernel": self.kernel_init(kernel_key, (input_size, size), dtype),
            "linear_matrix": linear,
            "recurrent_matrix": recurrent,
            "bias": linear_bias(bias_key, size, input_size, dtype),
        }

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        return {
            "kernel": params["kernel"],
            "linear_kernel": stabilised(params["linear_matrix"], self.beta_a, self.gamma_a),
            "recurrent_kernel": stabilised(params["recurrent_matrix"], self.beta_u, self.gamma_u),
            "bias": params["bias"],
        }

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        return dense(x, weights["kernel"], weights["bias"])

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        def slope(hidden: jax.Array) -> jax.Array:
            bent = self.activation(drive + dense(hidden, weights["recurrent_kernel"]))
            return dense(hidden, weights["linear_kernel"]) + bent

        hidden = explicit(self.method, slope, carry, constant(self.dt, carry))
        return hidden, hidden


def stabilised(matrix: jax.Array, beta: Number, gamma: Number) -> jax.Array:
    """(1 - beta) (M + M^T) + beta (M - M^T) - gamma I of a matrix [H, H]."""
    beta, gamma = constant(beta, matrix), constant(gamma, matrix)
    mixed = (1 - beta) * (matrix + matrix.T) + beta * (matrix - matrix.T)
    return mixed - gamma * jnp.eye(len(matrix), dtype=matrix.dtype)
