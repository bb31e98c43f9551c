"""One cell for every trait that the machinery must serve: kinds of state, input, recurrence and noise.

What depends on `unroll`, on wrappers, stacks and modules, not on a cell, is checked over `TRAITS`: cells of
the registry where one has the trait, small ones of this file and of linear_traits.py elsewhere.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnncells import (
    GRU,
    LRU,
    LSTM,
    MLSTM,
    RWKV4,
    CausalConvolution,
    Cell,
    Elman,
    ExpRNN,
    MinGRU,
    Timed,
    dense,
    modrelu,
    split_gates,
    static,
)
from rnncells.cell import locked
from rnncells.dtypes import accumulator, dtype_of, wider
from rnncells.initializers import Glorot, Normal, Orthogonal
from rnncells.parts.arithmetic import align
from tests.linear_traits import Delta, Heads


class _Small(Cell):
    """A cell with a kernel and a recurrent kernel."""

    paper = "none"
    gates = ("h",)

    features: int = static()

    def init(self, key, input_size, dtype=jnp.float32):
        keys, size = jax.random.split(key), self.features
        return {
            "kernel": Glorot()(keys[0], (input_size, len(self.gates) * size), dtype),
            "recurrent_kernel": Orthogonal()(keys[1], (size, size), dtype),
        }

    def project(self, weights, x, key=None):
        return dense(x, weights["kernel"])


class Tally(NamedTuple):
    """How many ticks there were, and what they left."""

    ticks: jax.Array
    mean: jax.Array


class Counting(_Small):
    """Integer: the mean of all that was seen, m' = m + (tanh(x W + m U) - m) / n, with n the ticks so far."""

    def initial_carry(self, params=None, batch_shape=(), like=None):
        mean = jnp.zeros((*batch_shape, self.features), dtype_of(params, like))
        return Tally(jnp.zeros(batch_shape, jnp.int32), mean)

    def step(self, weights, carry, drive):
        ticks = carry.ticks + 1
        seen = jnp.tanh(drive + dense(carry.mean, weights["recurrent_kernel"]))
        mean = carry.mean + (seen - carry.mean) / ticks[..., None].astype(seen.dtype)
        return Tally(ticks, mean), mean


class Turning(_Small):
    """Complex: s' = modrelu(e^(i angle) s + x W + i x V), y = Re s'."""

    gates = ("re", "im")

    def init(self, key, input_size, dtype=jnp.float32):
        params = super().init(key, input_size, dtype)
        del params["recurrent_kernel"]
        return params | {
            "angle": jnp.ones((self.features,), dtype),
            "bias": jnp.zeros((self.features,), dtype),
        }

    def initial_carry(self, params=None, batch_shape=(), like=None):
        wide = wider(accumulator(dtype_of(params, like)), jnp.complex64)
        return jnp.full((*batch_shape, self.features), 0.2 + 0.1j, wide)

    def step(self, weights, carry, drive):
        real = jnp.real(carry).dtype
        angle = align(weights["angle"].astype(real), carry)
        re, im = split_gates(drive.astype(real), 2)
        turned = jax.lax.complex(jnp.cos(angle), jnp.sin(angle)) * carry + jax.lax.complex(re, im)
        state = modrelu(turned, weights["bias"])
        return state, state.real.astype(drive.dtype)


class Nested(_Small):
    """Nested: a state of dicts and tuples, whose parts are copied and mixed."""

    def initial_carry(self, params=None, batch_shape=(), like=None):
        fast, old, older = (super(Nested, self).initial_carry(params, batch_shape) for _ in range(3))
        return {"slow": (old, [older]), "fast": fast}

    def step(self, weights, carry, drive):
        old, (older,) = carry["slow"]
        fast = jnp.tanh(drive + dense(carry["fast"] + 0.5 * older, weights["recurrent_kernel"]))
        return {"slow": (fast, [old]), "fast": fast}, fast + old


class Fading(_Small):
    """Pytree input: h' = 2^(-elapsed) h + tanh(x W + h U)."""

    timed = True

    def project(self, weights, x, key=None):
        x, elapsed = x if isinstance(x, Timed) else (x, jnp.ones((*x.shape[:-1], 1), x.dtype))
        return super().project(weights, x), jnp.exp2(-elapsed)

    def step(self, weights, carry, drive):
        seen, kept = drive
        hidden = kept * carry + jnp.tanh(seen + dense(carry, weights["recurrent_kernel"]))
        return hidden, hidden


class Echo(Cell):
    """No parameters: h' = tanh(x W + h U) with matrices that a seed fixes."""

    paper = "none"
    gates = ("h",)

    features: int = static()
    seed: int = static(default=0)

    def init(self, key, input_size, dtype=jnp.float32):
        return {}

    def initial_carry(self, params=None, batch_shape=(), like=None):
        return jnp.zeros((*batch_shape, self.features), dtype_of(params, like))

    def prepare(self, params, key=None, batch_shape=(), like=None):
        keys, size = jax.random.split(jax.random.key(self.seed)), self.features
        return {
            "kernel": Normal(1.0)(keys[0], (like.shape[-1], size), like.dtype),
            "recurrent_kernel": Orthogonal(0.9)(keys[1], (size, size), like.dtype),
        }

    def project(self, weights, x, key=None):
        return dense(x, weights["kernel"])

    def step(self, weights, carry, drive):
        hidden = jnp.tanh(drive + dense(carry, weights["recurrent_kernel"]))
        return hidden, hidden


class Wandering(_Small):
    """A key in the state: h' = tanh(x W + h U + e), with e drawn by the state itself."""

    def initial_carry(self, params=None, batch_shape=(), like=None):
        keys = jnp.broadcast_to(jax.random.key(0), batch_shape)
        return keys, super().initial_carry(params, batch_shape)

    def step(self, weights, carry, drive):
        keys, hidden = carry
        draw = functools.partial(jax.random.normal, shape=(self.features,), dtype=hidden.dtype)
        ahead = functools.partial(jax.random.fold_in, data=1)
        for _ in keys.shape:
            draw, ahead = jax.vmap(draw), jax.vmap(ahead)
        hidden = jnp.tanh(drive + dense(hidden, weights["recurrent_kernel"]) + draw(keys))
        return (ahead(keys), hidden), hidden


class Noisy(Elman):
    """Noise: on the drive, and, locked over time, on the bias."""

    def prepare(self, params, key=None, batch_shape=()):
        if key is None:
            return params
        bias = params["bias"]
        return params | {"bias": bias + jax.random.normal(locked(key), bias.shape, bias.dtype)}

    def project(self, weights, x, key=None):
        drive = super().project(weights, x)
        return drive if key is None else drive + jax.random.normal(key, drive.shape, drive.dtype)


class NoisyMinGRU(MinGRU):
    """Noise on the input of a linear cell."""

    def project(self, weights, x, key=None):
        return super().project(weights, x if key is None else x + jax.random.normal(key, x.shape, x.dtype))


class Learned(GRU):
    """A state before the first tick that is a parameter."""

    def init(self, key, input_size, dtype=jnp.float32):
        return super().init(key, input_size, dtype) | {"carry": jnp.full((self.features,), 0.5, dtype)}

    def initial_carry(self, params, batch_shape=()):
        return jnp.broadcast_to(params["carry"], (*batch_shape, self.features))


class ShortChunks(MLSTM):
    """A matrix, stabilised, with a form of its own for many ticks: here for three."""

    chunk_size = 3


KINDS = {
    "gated": LSTM,
    "two products": functools.partial(GRU, reset_after=False),
    "prepared": ExpRNN,
    "integer": Counting,
    "complex": Turning,
    "nested": Nested,
    "timed": Fading,
    "noisy": Noisy,
    "no parameters": Echo,
    "key": Wandering,
    "learned": Learned,
    "diagonal": MinGRU,
    "noisy diagonal": NoisyMinGRU,
    "log space": functools.partial(MinGRU, log_space=True),
    "complex diagonal": LRU,
    "broadcast decay": Heads,
    "running maximum": RWKV4,
    "shift": CausalConvolution,
    "rank one": Delta,
    "chunks": ShortChunks,
}
"""What makes the cell of a trait, by name; all take `features`."""
TRAITS: dict[str, Cell] = {name: kind(4) for name, kind in KINDS.items()} | {
    "chunks": ShortChunks(4, heads=2)
}
LINEAR_TRAITS = {name: cell for name, cell in TRAITS.items() if cell.linear}


class Pairs(Cell):
    """Takes a pytree: adds what it is shown, if the gate beside it is open."""

    paper = "none"
    features: int = static()

    def init(self, key, input_size, dtype=jnp.float32):
        return {"scale": jnp.ones((self.features,), dtype)}

    def project(self, weights, x, key=None):
        return jnp.where(x["open"] > 0, x["value"] * weights["scale"].reshape(1, -1), 0)

    def step(self, weights, carry, drive):
        return carry + drive, carry + drive
