"""Liquid time constants, by small steps and in closed form."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Cell, Inputs, Like, Params, Shape, Weights
from rnncells.dtypes import accumulator
from rnncells.fields import choice, static
from rnncells.initializers import Glorot, Initializer, gate_kernel, linear_bias, scheme
from rnncells.parts.activations import Activation, activation
from rnncells.parts.arithmetic import align, dense, inverse_softplus, split_gates
from rnncells.parts.integrators import repeat, with_time

_POSITIVE = {"capacity": (0.4, 0.6), "leak": (1e-3, 1.0), "strength": (1e-3, 1.0)}
"""Between which values they start; all are the softplus of what is trained."""
_FREE = {"rest": (-0.2, 0.2), "slope": (3.0, 8.0), "centre": (0.3, 0.8)}


class LTCDrive(NamedTuple):
    """What the senses and the leak give, and the length of a step."""

    current: jax.Array
    conductance: jax.Array
    length: jax.Array


class LTC(Cell):
    """Liquid time-constant network: leaky membranes, joined by synapses that open with the voltage.

        w_ji(v) = g_ji s(r_ji (v_j - m_ji))
        C dv_i/dt = l (v_rest - v) + sum_j w_ji(v) (E_ji - v_i) + the same over u,    u = a x + c,    y = v'

    with s the logistic function and, for the senses u, synapses of their own. How fast a unit moves, C over
    the sum of its conductances, depends on input and state. A tick takes several steps; one of length d takes
    the synapses at the old v and everything else at the new one:

        v' = (C v + d (l v_rest + sum_j w_ji E_ji)) / (C + d (l + sum_j w_ji)),    sums over the senses too

    Each v' lies between the old v, v_rest and the E_ji, however long the step.

    Shapes: x [..., I] or `Timed(x, elapsed)` with elapsed [..., 1], v and y [..., H]; capacity C, leak l and
    rest v_rest [H]; strength g, slope r, centre m and reversal E [H, H], from row to column; sense_strength,
    sense_slope, sense_centre and sense_reversal [I, H]; input_scale a and input_bias c [I]. C, l and g are
    the softplus of their parameters, and `prepare` returns them as such.

    Args:
        features: H.
        substeps: how many steps a tick takes; 6 by default. A tick without elapsed time takes 1.

    Start: C U(.4, .6), l and g U(.001, 1), v_rest U(-.2, .2), r U(3, 8), m U(.3, .8), E -1 or 1, a 1, c 0.

    Source: Hasani, Lechner, Amini, Rus & Grosu 2021, arXiv 2006.04439; synapses, step and initial values from
    the authors' library. Deviations: the paper writes one function f for all synapses of a unit; the library
    clips C, l and g at zero after every step of its optimiser, or takes the softplus of what it draws; its
    masks of absent synapses and its scaling of outputs are left out.
    """

    paper = "Hasani, Lechner, Amini, Rus & Grosu 2021, arXiv 2006.04439"
    timed = True

    features: int = static(check=checks.positive_int)
    substeps: int = static(default=6, check=checks.positive_int)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        size = self.features
        shapes: dict[str, Shape] = dict.fromkeys(("capacity", "leak", "rest"), (size,))
        for name in ("strength", "slope", "centre", "reversal"):
            shapes |= {name: (size, size), f"sense_{name}": (input_size, size)}
        keys = jax.random.split(key, len(shapes))
        drawn = {
            name: _start(k, name, shape, dtype) for k, (name, shape) in zip(keys, shapes.items(), strict=True)
        }
        return drawn | {
            "input_scale": jnp.ones((input_size,), dtype),
            "input_bias": jnp.zeros((input_size,), dtype),
        }

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        positive = {name: leaf for name, leaf in params.items() if name.removeprefix("sense_") in _POSITIVE}
        return params | {name: jax.nn.softplus(leaf) for name, leaf in positive.items()}

    def project(self, weights: Weights, x: Inputs, key: chex.PRNGKey | None = None) -> LTCDrive:
        x, elapsed = with_time(x)
        checks.features("x", x, weights["input_scale"].shape[0])
        sensed = align(weights["input_scale"], x) * x + align(weights["input_bias"], x)
        senses = [weights[f"sense_{name}"] for name in ("strength", "slope", "centre", "reversal")]
        current, conductance = synapses(senses, sensed)
        leak, rest = (align(weights[name], current) for name in ("leak", "rest"))
        return LTCDrive(current + leak * rest, conductance + leak, elapsed / self.substeps)

    def step(self, weights: Weights, carry: jax.Array, drive: LTCDrive) -> tuple[jax.Array, jax.Array]:
        between = [weights[name] for name in ("strength", "slope", "centre", "reversal")]
        capacity = align(weights["capacity"], carry)

        def advance(voltage: jax.Array) -> jax.Array:
            current, conductance = synapses(between, voltage)
            pulled = capacity * voltage + drive.length * (drive.current + current)
            return pulled / (capacity + drive.length * (drive.conductance + conductance))

        voltage = repeat(advance, carry, self.substeps)
        return voltage, voltage


def _start(key: chex.PRNGKey, name: str, shape: Shape, dtype: DTypeLike) -> jax.Array:
    kind = name.removeprefix("sense_")
    if kind == "reversal":
        return jax.random.rademacher(key, shape).astype(dtype)
    low, high = (_POSITIVE | _FREE)[kind]
    drawn = jax.random.uniform(key, shape, accumulator(dtype), low, high)
    return (inverse_softplus(drawn) if kind in _POSITIVE else drawn).astype(dtype)


def synapses(parameters: list[jax.Array], before: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The currents sum_j w_ji E_ji and the conductances sum_j w_ji [..., H] of synapses that read
    `before` [..., J]; their strength, slope, centre and reversal are [J, H]."""
    voltage = before[..., None]
    strength, slope, centre, reversal = (align(leaf, voltage) for leaf in parameters)
    opened = strength * jax.nn.sigmoid(slope * (voltage - centre))
    return (opened * reversal).sum(-2), opened.sum(-2)


def lecun_tanh(x: jax.Array) -> jax.Array:
    """1.7159 tanh(0.666 x)"""
    return 1.7159 * jnp.tanh(0.666 * x)


class CfC(Cell):
    """Closed-form continuous-time network: how a liquid network moves in time, without steps.

        q = act(x W + h U + b),    a further layer act(q K + k) for each that is asked for
        f_1, f_2, t_a, t_b = q P + p
        g = s(t_a elapsed + t_b)
        h' = (1 - g) tanh(f_1) + g tanh(f_2)                       mode "default"
        h' = tanh(f_1) + g tanh(f_2)                               mode "no_gate"
        h' = A (1 - f_1 exp(-elapsed (|w| + |f_1|)))               mode "pure", which has f_1 alone

    with s the logistic function and y = h'.

    Shapes: x [..., I] or `Timed(x, elapsed)` with elapsed [..., 1], h and y [..., H]; with a backbone of N
    units and L layers: kernel W [I, N], recurrent_kernel U [H, N], bias b [N], layer_kernels K [L - 1, N, N]
    and layer_biases k [L - 1, N] (for L > 1), head_kernel P [N, 4H] and head_bias p [4H], gates in the order
    f_1, f_2, t_a, t_b; "pure": [N, H] and [H], limit A and decay w [H].

    Args:
        features: H.
        mode: "default", "no_gate" or "pure".
        backbone_units, backbone_layers: N and L; 128 and 1 by default.
        activation: act, 1.7159 tanh(0.666 x) by default.
        kernel_init: of all kernels, Glorot uniform; W and U are drawn together, the heads one by one.

    Biases start U(-a, a), a = n^(-1/2) with n the rows of their kernel; A at 1, w as a kernel of one row.

    Source: Hasani, Lechner, Amini, Liebenwein, Ray, Tschaikowski, Teschl & Rus 2022, arXiv 2106.13898; heads,
    modes and initial values from the authors' libraries. The paper's gate s(-f t) is the one above with
    t_b = 0. One of the libraries draws A too, the other starts w at 0, from where |w| has no slope. Dropout
    in the backbone, masks and the LSTM in front (mixed memory) are not part of the cell.
    """

    paper = "Hasani et al. 2022, arXiv 2106.13898"
    gates = ("f_1", "f_2", "t_a", "t_b")
    timed = True

    features: int = static(check=checks.positive_int)
    mode: str = choice("default", "no_gate", "pure", default="default")
    backbone_units: int = static(default=128, check=checks.positive_int)
    backbone_layers: int = static(default=1, check=checks.positive_int)
    activation: Activation = activation(lecun_tanh)
    kernel_init: Initializer = scheme(Glorot(), kw_only=True)

    def block(self, kernel: str) -> int:
        return self.features if kernel.startswith("head") else self.backbone_units

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        size, width, rows = self.features, self.backbone_units, input_size + self.features
        joint_key, bias_key, head_key, head_bias_key, decay_key, layers_key = jax.random.split(key, 6)
        joint = self.kernel_init(joint_key, (rows, width), dtype)
        heads = 1 if self.mode == "pure" else len(self.gates)
        params = {
            "kernel": jax.tree.map(lambda leaf: leaf[:input_size], joint),
            "recurrent_kernel": jax.tree.map(lambda leaf: leaf[input_size:], joint),
            "bias": linear_bias(bias_key, width, rows, dtype),
            "head_kernel": gate_kernel(self.kernel_init, head_key, width, size, heads, dtype),
            "head_bias": linear_bias(head_bias_key, heads * size, width, dtype),
        }
        if self.mode == "pure":
            decay = self.kernel_init(decay_key, (1, size), dtype)
            params |= {
                "limit": jnp.ones((size,), dtype),
                "decay": jax.tree.map(lambda leaf: leaf[0], decay),
            }
        if further := self.backbone_layers - 1:
            kernel_keys, bias_keys = jax.random.split(layers_key, (2, further))
            kernels = [self.kernel_init(k, (width, width), dtype) for k in kernel_keys]
            biases = [linear_bias(k, width, width, dtype) for k in bias_keys]
            params["layer_kernels"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *kernels)
            params["layer_biases"] = jnp.stack(biases)
        return params

    def project(
        self, weights: Weights, x: Inputs, key: chex.PRNGKey | None = None
    ) -> tuple[jax.Array, jax.Array]:
        x, elapsed = with_time(x)
        return dense(x, weights["kernel"], weights["bias"]), elapsed

    def step(self, weights: Weights, carry: jax.Array, drive: Any) -> tuple[jax.Array, jax.Array]:
        fed, elapsed = drive
        q = self.activation(fed + dense(carry, weights["recurrent_kernel"]))
        for layer in range(self.backbone_layers - 1):
            q = self.activation(dense(q, weights["layer_kernels"][layer], weights["layer_biases"][layer]))
        heads = dense(q, weights["head_kernel"], weights["head_bias"])
        if self.mode == "pure":
            limit, decay = (align(weights[name], heads) for name in ("limit", "decay"))
            hidden = limit * (1 - heads * jnp.exp(-elapsed * (jnp.abs(decay) + jnp.abs(heads))))
        else:
            f_1, f_2, t_a, t_b = split_gates(heads, 4)
            gate = jax.nn.sigmoid(t_a * elapsed + t_b)
            kept = 1 - gate if self.mode == "default" else 1
            hidden = kept * jnp.tanh(f_1) + gate * jnp.tanh(f_2)
        return hidden, hidden
