"""Layers of rotations: the tunable efficient unitary network, and the gated orthogonal unit."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator
from rnncells.fields import Number, choice, number, static
from rnncells.initializers import ForgetBias, Initializer, UniformWithin, scheme
from rnncells.parts.activations import modrelu
from rnncells.parts.arithmetic import align, dense, split_gates
from rnncells.parts.gated import GatedCell
from rnncells.parts.integrators import relax
from rnncells.parts.orthogonal import (
    RotationLayer,
    UnitaryCell,
    angle_count,
    rotate,
    rotation_layers,
    rotation_weights,
    unit_circle,
)


class EUNN(UnitaryCell):
    """Efficient unitary network: the state is turned by layers of rotations of pairs of units.

        U = diag(e^(i omega)) F_L ... F_1
        F:  h_i <- e^(i phi) (cos theta h_i - sin theta h_j),    h_j <- sin theta h_i + cos theta h_j
        h' = modrelu_b(x W + U h),    y = (Re h', Im h')
        modrelu_b(z) = relu(|z| + b) z / |z|

    with angles of its own for each pair (i, j). A tick takes L H operations; H layers reach every unitary
    map.

    Shapes: x [..., I], h [..., H] complex64 or wider, y [..., 2H]; kernel W [I, 2H], real parts, then
    imaginary ones; theta and phi [P], one for each pair, layer by layer; omega [H]; bias b [H]. `prepare`
    returns `rotations` [L, 3, H] and `phases` e^(i omega) in place of the angles.

    Args:
        features: H.
        capacity: L, 2 by default.
        style: "tunable" (the default): layers pair neighbours, from unit 0 and from unit 1 in turn; "fft":
            log2 H layers, whose pairs lie H/2, H/4, ... 1 apart, whatever the capacity.
        kernel_init: U(-0.01, 0.01).

    Angles start U(-pi, pi), b at zero.

    Source: Jing, Shen, Dubcek, Peurifoy, Skirlo, LeCun, Tegmark & Soljacic 2017, arXiv 1612.05231; initial
    values from the authors' code. Deviations: their code puts the phase on h_j instead, has a further mode
    with real states, adds 0.01 to |z| (here |z| is sqrt(|z|^2 + 1e-8), see `ExpRNN`) and wants an even H, or
    a power of two; here units without a partner stay as they are in a layer.
    """

    paper = "Jing et al. 2017, arXiv 1612.05231"

    capacity: int = static(default=2, check=checks.positive_int)
    style: str = choice("tunable", "fft", default="tunable")
    kernel_init: Initializer = scheme(UniformWithin(0.01), kw_only=True)

    @property
    def layers(self) -> list[RotationLayer]:
        return rotation_layers(self.features, self.capacity, self.style)

    def start_bias(self, key: chex.PRNGKey, dtype: DTypeLike) -> jax.Array:
        return jnp.zeros((self.features,), dtype)

    def turning_params(self, key: chex.PRNGKey, dtype: DTypeLike) -> Params:
        pairs = angle_count(self.layers)
        sizes = {"theta": pairs, "phi": pairs, "omega": self.features}
        keys = jax.random.split(key, len(sizes))
        return {
            name: jax.random.uniform(k, (size,), dtype, -np.pi, np.pi)
            for k, (name, size) in zip(keys, sizes.items(), strict=True)
        }

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        theta, phi = (params[name].astype(accumulator(params[name].dtype)) for name in ("theta", "phi"))
        return {
            "kernel": params["kernel"],
            "rotations": rotation_weights(self.layers, self.features, theta, phi),
            "phases": unit_circle(params["omega"]),
            "bias": params["bias"],
        }

    def turn(self, weights: Weights, hidden: jax.Array) -> jax.Array:
        return align(weights["phases"], hidden) * rotate(self.layers, weights["rotations"], hidden)


class GORU(GatedCell):
    """Gated orthogonal recurrent unit: a gated unit whose candidate is a rotation of the state.

        r = s(x W_r + h U_r + b_r)      g = s(x W_g + h U_g + b_g)
        c = modrelu_m(x W_c + r Q h)
        h' = g h + (1 - g) c,    y = h'

    with s the logistic function, modrelu_m(z) = relu(|z| + m) z / |z|, and Q layers of rotations of pairs of
    units, orthogonal whatever is trained (see `EUNN`, with all phases zero).

    Shapes: x [..., I], h and y [..., H]; kernel W [I, 3H], gates in the order r, g, c; recurrent_kernel U
    [H, 2H] and bias b [2H], of r and g; theta [P], one for each pair, layer by layer; modrelu_bias m [H].
    `prepare` returns `rotations` [L, 3, H] in place of `theta`.

    Args:
        features: H.
        forget_bias: initial b_g, 0 by default.
        reset_bias: initial b_r, 2 by default.
        capacity, style: of Q, as EUNN; 2 and "tunable" by default.
        kernel_init, recurrent_init: U(-0.01, 0.01).
        bias_init, use_bias: what b_r and b_g are added to, zeros by default; without, b is left out.

    theta starts U(-pi, pi), m at 0.01.

    Source: Jing, Gulcehre, Peurifoy, Shen, Tegmark, Soljacic & Bengio 2017, arXiv 1706.02761; initial values
    from the authors' code. Deviations: their code draws b_g by accident of a default, takes "fft" by default
    and adds 0.001 to |z| (here |z| is sqrt(z^2 + 1e-8), see `ExpRNN`).
    """

    paper = "Jing et al. 2017, arXiv 1706.02761"
    gates = ("r", "g", "c")
    recurrent_gates = ("r", "g")
    biased_gates = ("r", "g")
    keep = "g"

    reset_bias: Number = number(default=2.0)
    capacity: int = static(default=2, check=checks.positive_int)
    style: str = choice("tunable", "fft", default="tunable")
    kernel_init: Initializer = scheme(UniformWithin(0.01), kw_only=True)
    recurrent_init: Initializer = scheme(UniformWithin(0.01), kw_only=True)
    forget_bias: ForgetBias = number(default=0.0)

    @property
    def layers(self) -> list[RotationLayer]:
        return rotation_layers(self.features, self.capacity, self.style)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, theta_key = jax.random.split(key)
        pairs = angle_count(self.layers)
        return super().init(key, input_size, dtype) | {
            "theta": jax.random.uniform(theta_key, (pairs,), dtype, -np.pi, np.pi),
            "modrelu_bias": jnp.full((self.features,), 0.01, dtype),
        }

    def added_biases(self, key: chex.PRNGKey, dtype: DTypeLike) -> dict[str, jax.Array]:
        reset = jnp.broadcast_to(jnp.asarray(self.reset_bias, dtype), (self.features,))
        return super().added_biases(key, dtype) | {"r": reset}

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        kept = {name: leaf for name, leaf in params.items() if name != "theta"}
        return kept | {"rotations": rotation_weights(self.layers, self.features, params["theta"])}

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        size = self.features
        fused = drive[..., : 2 * size] + dense(carry, weights["recurrent_kernel"])
        r, g = split_gates(jax.nn.sigmoid(fused), 2)
        turned = rotate(self.layers, weights["rotations"], carry)
        candidate = modrelu(drive[..., 2 * size :] + r * turned, weights["modrelu_bias"])
        hidden = relax(candidate, carry, g)
        return hidden, hidden
