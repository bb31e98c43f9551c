"""Networks of oscillators: coRNN and UnICORNN."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Cell, Like, Params, Shape, Weights
from rnncells.dtypes import dtype_of
from rnncells.fields import Number, number, static
from rnncells.initializers import Initializer, LeCun, linear_bias, scheme
from rnncells.parts.arithmetic import align, constant, dense
from rnncells.parts.gated import ProjectedCell
from rnncells.parts.integrators import symplectic_euler


class OscillatorCarry(NamedTuple):
    """`y, z = carry`: positions and velocities, both [..., H]."""

    y: jax.Array
    z: jax.Array


class Oscillators(Cell):
    """Cells whose state is a position and a velocity for each unit, and whose output is the position."""

    features: int = static(check=checks.positive_int)

    def initial_carry(
        self, params: Params = None, batch_shape: Shape = (), like: Like = None
    ) -> OscillatorCarry:
        shape, dtype = (*batch_shape, self.features), dtype_of(params, like)
        return OscillatorCarry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


class CoRNN(Oscillators):
    """Coupled oscillatory recurrent network: damped oscillators that are driven by each other.

        z' = z + dt (tanh(x W + y U + z V + b) - gamma y - epsilon z)
        y' = y + dt z'

    y'' = tanh(...) - gamma y - epsilon y' as a differential equation, by an implicit-explicit step.

    Shapes: x [..., I], carry `OscillatorCarry(y, z)` of two [..., H], output y' [..., H]; kernel W [I, H],
    recurrent_kernel U and velocity_kernel V [H, H], bias b [H].

    Args:
        features: H.
        dt, gamma, epsilon: step, frequency and damping; 0.042, 2.7 and 4.7 by default, the authors' for
            sequential MNIST. They are tuned for each task: 0.06, 66 and 15 for the adding problem.
        implicit_damping: epsilon z' in place of epsilon z, z' = (z + dt (tanh(...) - gamma y)) / (1 + dt
            epsilon). The paper has both, the authors' code the explicit one, which is the default.
        kernel_init: of W, U and V, drawn together as one [I + 2H, H]; U(-a, a) with a = (I + 2H)^(-1/2),
            from which b is drawn too.

    Source: Rusch & Mishra 2021, arXiv 2010.00951; initialisation and numbers from the authors' code.
    """

    paper = "Rusch & Mishra 2021, arXiv 2010.00951"
    gates = ("h",)

    dt: Number = number(default=0.042, low=0.0)
    gamma: Number = number(default=2.7, low=0.0)
    epsilon: Number = number(default=4.7, low=0.0)
    implicit_damping: bool = static(default=False)
    kernel_init: Initializer = scheme(LeCun(3**-0.5, "uniform"), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        kernel_key, bias_key = jax.random.split(key)
        rows = input_size + 2 * self.features
        joint = self.kernel_init(kernel_key, (rows, self.features), dtype)
        starts = {"kernel": 0, "recurrent_kernel": input_size, "velocity_kernel": input_size + self.features}
        ends = [*list(starts.values())[1:], rows]
        kernels = {
            name: jax.tree.map(lambda leaf, start=start, end=end: leaf[start:end], joint)
            for (name, start), end in zip(starts.items(), ends, strict=True)
        }
        return kernels | {"bias": linear_bias(bias_key, self.features, rows, dtype)}

    def project(self, weights: Weights, x: jax.Array, key: chex.PRNGKey | None = None) -> jax.Array:
        return dense(x, weights["kernel"], weights["bias"])

    def step(
        self, weights: Weights, carry: OscillatorCarry, drive: jax.Array
    ) -> tuple[OscillatorCarry, jax.Array]:
        y, z = carry
        coupled = drive + dense(y, weights["recurrent_kernel"]) + dense(z, weights["velocity_kernel"])
        dt, gamma, epsilon = (constant(value, y) for value in (self.dt, self.gamma, self.epsilon))
        force = jnp.tanh(coupled) - gamma * y
        if self.implicit_damping:
            y, z = symplectic_euler(y, z, force, dt, damping=epsilon)
        else:
            y, z = symplectic_euler(y, z, force - epsilon * z, dt)
        return OscillatorCarry(y, z), y


class UnICORNN(Oscillators, ProjectedCell):
    """Undamped independent controlled oscillatory recurrent network.

        d = dt s(c)
        z' = z - d (tanh(w y + x W + b) + alpha y)
        y' = y + d z'

    with s the logistic function; products with w and d are elementwise. Each unit is an oscillator by
    itself, and energy is neither lost nor made up: the step is invertible and keeps volumes. Units meet in
    the layer above.

    Shapes: x [..., I], carry `OscillatorCarry(y, z)` of two [..., H], output y' [..., H]; kernel W [I, H],
    bias b, frequency w and step_logit c [H]. `prepare` returns `step` d in place of `step_logit`.

    Args:
        features: H.
        dt, alpha: step and stiffness; 0.19 and 30.65 by default, the authors' for permuted MNIST. They are
            tuned for each task; a stack may have steps of its own for each layer.
        kernel_init: U(-a, a) with a = sqrt(6 / (65 I)).
        bias_init, use_bias: zeros by default; without, b is left out.

    w starts U(0, 1) and c U(-0.1, 0.1).

    Source: Rusch & Mishra 2021, arXiv 2103.05487; initialisation and numbers from the authors' code. It is a
    layer of their network, which is a `Stack` of three with dropout that is locked over time.
    """

    paper = "Rusch & Mishra 2021, arXiv 2103.05487"
    gates = ("h",)

    dt: Number = number(default=0.19, low=0.0)
    alpha: Number = number(default=30.65, low=0.0)
    kernel_init: Initializer = scheme(LeCun((2 / 65) ** 0.5, "uniform"), kw_only=True)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, frequency_key, step_key = jax.random.split(key, 3)
        return super().init(key, input_size, dtype) | {
            "frequency": jax.random.uniform(frequency_key, (self.features,), dtype),
            "step_logit": jax.random.uniform(step_key, (self.features,), dtype, -0.1, 0.1),
        }

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        kept = {name: leaf for name, leaf in params.items() if name != "step_logit"}
        logit = params["step_logit"]
        return kept | {"step": constant(self.dt, logit) * jax.nn.sigmoid(logit)}

    def step(
        self, weights: Weights, carry: OscillatorCarry, drive: jax.Array
    ) -> tuple[OscillatorCarry, jax.Array]:
        y, z = carry
        force = jnp.tanh(align(weights["frequency"], y) * y + drive) + constant(self.alpha, y) * y
        y, z = symplectic_euler(y, z, -force, align(weights["step"], y))
        return OscillatorCarry(y, z), y
