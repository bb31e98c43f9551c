"""The same recurrent layer in other libraries, with our parameters in it.

A builder takes a cell of ours, its parameters and xs [T, B, I], and returns a `Layer`: the layer as
users of that library write it, in the layout that is native and fastest there. The parameters may
be any, but for the GRU's `recurrent_bias`, which must be zero: nnx and Haiku have none.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

import rnncells
from rnncells import Cell
from rnncells.cells.gru import GRU


class Layer(NamedTuple):
    """A layer of some library, and what to call it with."""

    outputs: Callable[[Any, Any], Any]
    """outputs(params, xs): the outputs of all ticks, in the layout of xs."""
    params: Any
    xs: Any
    cell: Cell
    """The cell of ours that computes the same; the one given, but for Haiku's GRU."""
    time_major: bool = True
    gradient: Callable[[Any, Any], Any] | None = None
    """Of the library, where JAX does not differentiate it: `loss_and_gradient`."""

    def loss_and_gradient(self, params: Any, xs: Any) -> Any:
        """The mean of squared outputs, and its gradient with respect to all parameters."""
        if self.gradient is not None:
            return self.gradient(params, xs)
        return jax.value_and_grad(lambda params: jnp.mean(jnp.square(self.outputs(params, xs))))(params)

    def numpy(self) -> np.ndarray:
        """The outputs as [T, B, H]."""
        run = self.outputs if self.gradient else jax.jit(self.outputs)
        ys = np.asarray(run(self.params, self.xs))
        return ys if self.time_major else ys.swapaxes(0, 1)


Builder = Callable[[Cell, dict[str, Any], np.ndarray], Layer]


def library(name: str) -> Any:
    """A library that only the comparison needs, imported when it is asked for."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{name} is not installed: `pip install .[parity]` installs every peer,"
            " `--peers linen nnx` compares with those that come with Flax."
        ) from error


def ours(cell: Cell, params: dict[str, Any], xs: np.ndarray, **options: Any) -> Layer:
    """`rnncells.unroll`; what the cell does not know is left out of params."""
    known = jax.eval_shape(lambda: cell.init(jax.random.key(0), xs.shape[-1]))
    own = {name: jnp.asarray(params[name]) for name in known}
    return Layer(lambda own, xs: rnncells.unroll(cell, own, xs, **options)[1], own, jnp.asarray(xs), cell)


def regate(fused: np.ndarray, order: Iterable[str], gates: Iterable[str]) -> np.ndarray:
    """Reorders the blocks on the last axis from `order` to `gates`: `regate(kernel, "ifgo", "igfo")`."""
    blocks = dict(zip(order, np.split(fused, len(tuple(order)), axis=-1), strict=True))
    return np.concatenate([blocks[gate] for gate in gates], axis=-1)


def two_biases(params: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Biases for a peer that has one beside each kernel."""
    recurrent = np.zeros_like(params["bias"])
    if "recurrent_bias" in params:
        recurrent[-params["recurrent_bias"].size :] = params["recurrent_bias"]
    return params["bias"], recurrent


def to_linen(cell: Cell, params: dict[str, Any]) -> dict[str, Any]:
    """One dense layer per gate and side, `ii` to `ho`; one side has the biases."""
    dense: dict[str, Any] = {}
    for side, name in (("i", "kernel"), ("h", "recurrent_kernel")):
        for gate, block in zip(cell.gates, np.split(params[name], len(cell.gates), axis=-1), strict=True):
            dense[side + gate] = {"kernel": block}
    side = "i" if isinstance(cell, GRU) else "h"
    for gate, block in zip(cell.gates, np.split(params["bias"], len(cell.gates)), strict=True):
        dense[side + gate]["bias"] = block
    if "recurrent_bias" in params:
        dense["hn"]["bias"] = params["recurrent_bias"]
    return jax.tree.map(jnp.asarray, dense)


def flax_linen(cell: Cell, params: dict[str, Any], xs: np.ndarray) -> Layer:
    kind = linen.GRUCell if isinstance(cell, GRU) else linen.OptimizedLSTMCell
    layer = linen.RNN(kind(cell.output_size), time_major=True)
    return Layer(layer.apply, {"params": {"cell": to_linen(cell, params)}}, jnp.asarray(xs), cell)


def flax_nnx(cell: Cell, params: dict[str, Any], xs: np.ndarray) -> Layer:
    """The carry is given, because nnx's RNN draws a key for its own, which plain jit forbids."""
    kind = nnx.GRUCell if isinstance(cell, GRU) else nnx.OptimizedLSTMCell
    layer = nnx.RNN(kind(xs.shape[-1], cell.output_size, rngs=nnx.Rngs(0)), time_major=True, rngs=False)
    dense = {"dense_i": {"kernel": params["kernel"]}, "dense_h": {"kernel": params["recurrent_kernel"]}}
    dense["dense_i" if isinstance(cell, GRU) else "dense_h"]["bias"] = params["bias"]
    nnx.update(layer.cell, jax.tree.map(jnp.asarray, dense))
    definition, trained = nnx.split(layer)

    def outputs(trained: Any, xs: Any) -> Any:
        zeros = jnp.zeros((xs.shape[1], cell.output_size))
        carry = zeros if isinstance(cell, GRU) else (zeros, zeros)
        return nnx.merge(definition, trained)(xs, initial_carry=carry)

    return Layer(outputs, trained, jnp.asarray(xs), cell)


def equinox(cell: Cell, params: dict[str, Any], xs: np.ndarray) -> Layer:
    eqx = library("equinox")
    kind = eqx.nn.GRUCell if isinstance(cell, GRU) else eqx.nn.LSTMCell
    names = {"weight_ih": "kernel", "weight_hh": "recurrent_kernel", "bias": "bias"}
    if isinstance(cell, GRU):
        names["bias_n"] = "recurrent_bias"
    peer = eqx.tree_at(
        lambda peer: [getattr(peer, name) for name in names],
        kind(xs.shape[-1], cell.output_size, key=jax.random.key(0)),
        [jnp.asarray(params[name].T) for name in names.values()],
    )

    def outputs(peer: Any, xs: Any) -> Any:
        def tick(state: Any, x: Any) -> tuple[Any, Any]:
            state = jax.vmap(peer)(x, state)
            return state, state if isinstance(cell, GRU) else state[0]

        zeros = jnp.zeros((xs.shape[1], cell.output_size))
        return jax.lax.scan(tick, zeros if isinstance(cell, GRU) else (zeros, zeros), xs)[1]

    return Layer(outputs, peer, jnp.asarray(xs), cell)


def haiku(cell: Cell, params: dict[str, Any], xs: np.ndarray) -> Layer:
    """Haiku adds 1 to f in the forward pass; its GRU resets before the product, and 1 - z is our z."""
    hk = library("haiku")
    kernel, recurrent_kernel, bias = params["kernel"], params["recurrent_kernel"], params["bias"]
    if isinstance(cell, GRU):
        kind, cell = hk.GRU, dataclasses.replace(cell, reset_after=False)
        sign = np.repeat(np.array([-1, 1, 1], np.float32), cell.output_size)
        fused = [sign * regate(leaf, cell.gates, "zrn") for leaf in (kernel, recurrent_kernel, bias)]
        theirs = {"gru": dict(zip(("w_i", "w_h", "b"), fused, strict=True))}
    else:
        kind, extra = hk.LSTM, np.repeat(np.array([0, 1, 0, 0], np.float32), cell.output_size)
        fused = [np.concatenate([kernel, recurrent_kernel]), bias - extra]
        fused = [regate(leaf, cell.gates, "igfo") for leaf in fused]
        theirs = {"lstm/linear": dict(zip("wb", fused, strict=True))}

    def outputs(xs: Any) -> Any:
        core = kind(cell.output_size)
        return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

    forward = hk.without_apply_rng(hk.transform(outputs))
    return Layer(forward.apply, jax.tree.map(jnp.asarray, theirs), jnp.asarray(xs), cell)


def keras(cell: Cell, params: dict[str, Any], xs: np.ndarray) -> Layer:
    """Batch-major, the only layout that Keras has."""
    os.environ["KERAS_BACKEND"] = "jax"
    keras = library("keras")
    if keras.config.backend() != "jax":
        raise RuntimeError(f"Keras runs on {keras.config.backend()}; expected jax.")
    name, order = ("GRU", "zrn") if isinstance(cell, GRU) else ("LSTM", "ifgo")
    layer = getattr(keras.layers, name)(cell.output_size, return_sequences=True)
    xs = xs.swapaxes(0, 1)
    layer.build(xs.shape)
    bias = np.stack(two_biases(params)) if isinstance(cell, GRU) else params["bias"]
    fused = (params["kernel"], params["recurrent_kernel"], bias)
    layer.set_weights([regate(leaf, cell.gates, order) for leaf in fused])
    fixed = [variable.value for variable in layer.non_trainable_variables]
    trained = [jnp.asarray(variable.value) for variable in layer.trainable_variables]

    def outputs(trained: Any, xs: Any) -> Any:
        return layer.stateless_call(trained, fixed, xs)[0]

    return Layer(outputs, trained, jnp.asarray(xs), cell, time_major=False)


def to_torch(params: dict[str, Any]) -> dict[str, Any]:
    bias, recurrent_bias = two_biases(params)
    return {
        "weight_ih_l0": params["kernel"].T,
        "weight_hh_l0": params["recurrent_kernel"].T,
        "bias_ih_l0": bias,
        "bias_hh_l0": recurrent_bias,
    }


def torch(cell: Cell, params: dict[str, Any], xs: np.ndarray) -> Layer:
    """On CPU, with as many threads as there are cores. The module is its own params."""
    torch = library("torch")
    module = getattr(torch.nn, type(cell).__name__)(xs.shape[-1], cell.output_size)
    module.load_state_dict({name: torch.tensor(leaf) for name, leaf in to_torch(params).items()})

    def outputs(module: Any, xs: Any) -> Any:
        with torch.no_grad():
            return module(xs)[0]

    def gradient(module: Any, xs: Any) -> Any:
        loss = module(xs)[0].square().mean()
        return loss.detach(), torch.autograd.grad(loss, tuple(module.parameters()))

    return Layer(outputs, module, torch.tensor(xs), cell, gradient=gradient)


def plain_scan(cell: Cell, params: dict[str, Any], xs: np.ndarray) -> Layer:
    """A MinGRU as a dozen lines of JAX, tick by tick."""

    def outputs(params: Any, xs: Any) -> Any:
        def tick(h: Any, x: Any) -> tuple[Any, Any]:
            z, n = jnp.split(x @ params["kernel"] + params["bias"], 2, axis=-1)
            h = h + jax.nn.sigmoid(z) * (n - h)
            return h, h

        return jax.lax.scan(tick, jnp.zeros((xs.shape[1], cell.output_size)), xs)[1]

    return Layer(outputs, jax.tree.map(jnp.asarray, params), jnp.asarray(xs), cell)


def plain_associative(cell: Cell, params: dict[str, Any], xs: np.ndarray) -> Layer:
    """A MinGRU as a dozen lines of JAX, by an associative scan."""

    def combine(earlier: Any, later: Any) -> Any:
        return earlier[0] * later[0], earlier[1] * later[0] + later[1]

    def outputs(params: Any, xs: Any) -> Any:
        z, n = jnp.split(xs @ params["kernel"] + params["bias"], 2, axis=-1)
        return jax.lax.associative_scan(combine, (jax.nn.sigmoid(-z), jax.nn.sigmoid(z) * n))[1]

    return Layer(outputs, jax.tree.map(jnp.asarray, params), jnp.asarray(xs), cell)


RECURRENT: dict[str, Builder] = {
    "linen": flax_linen,
    "nnx": flax_nnx,
    "equinox": equinox,
    "haiku": haiku,
    "keras": keras,
    "torch": torch,
}
LINEAR: dict[str, Builder] = {"scan": plain_scan, "associative": plain_associative}
