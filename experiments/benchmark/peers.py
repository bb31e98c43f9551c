"""The same recurrent layer in other libraries, with our parameters in it.

A builder takes a cell of ours, its parameters and xs [T, B, I], and returns a `Layer`: the layer as
users of that library write it, in the layout that is native and fastest there. The parameters may
be any, but for the GRU's `recurrent_bias`, which must be zero: nnx and Haiku have none.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

import rnncells
from rnncells import Cell, convert
from rnncells.cells.gated.gru import GRU


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


def flax_linen(cell: Cell, params: dict[str, Any], xs: np.ndarray) -> Layer:
    kind = linen.GRUCell if isinstance(cell, GRU) else linen.OptimizedLSTMCell
    layer = linen.RNN(kind(cell.output_size), time_major=True)
    return Layer(
        layer.apply,
        {"params": {"cell": jax.tree.map(jnp.asarray, convert.to_linen(cell, params))}},
        jnp.asarray(xs),
        cell,
    )


def flax_nnx(cell: Cell, params: dict[str, Any], xs: np.ndarray) -> Layer:
    """The carry is given, because nnx's RNN draws a key for its own, which plain jit forbids."""
    kind = nnx.GRUCell if isinstance(cell, GRU) else nnx.OptimizedLSTMCell
    layer = nnx.RNN(kind(xs.shape[-1], cell.output_size, rngs=nnx.Rngs(0)), time_major=True, rngs=False)
    nnx.update(layer.cell, jax.tree.map(jnp.asarray, convert.to_nnx(cell, params)))
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
    kind = hk.LSTM
    if isinstance(cell, GRU):
        kind, cell = hk.GRU, dataclasses.replace(cell, reset_after=False)
        params = {name: leaf for name, leaf in params.items() if name != "recurrent_bias"}
    theirs = convert.to_haiku(cell, params)

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
    layer = getattr(keras.layers, type(cell).__name__)(cell.output_size, return_sequences=True)
    xs = xs.swapaxes(0, 1)
    layer.build(xs.shape)
    layer.set_weights(convert.to_keras(cell, params))
    fixed = [variable.value for variable in layer.non_trainable_variables]
    trained = [jnp.asarray(variable.value) for variable in layer.trainable_variables]

    def outputs(trained: Any, xs: Any) -> Any:
        return layer.stateless_call(trained, fixed, xs)[0]

    return Layer(outputs, trained, jnp.asarray(xs), cell, time_major=False)


def torch(cell: Cell, params: dict[str, Any], xs: np.ndarray) -> Layer:
    """On CPU, with as many threads as there are cores. The module is its own params."""
    torch = library("torch")
    module = getattr(torch.nn, type(cell).__name__)(xs.shape[-1], cell.output_size)
    module.load_state_dict(
        {name: torch.tensor(leaf) for name, leaf in convert.to_torch(cell, params).items()}
    )

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
PEERS = (*RECURRENT, *LINEAR)
