"""The cells against their authors' packages, and against PyTorch, Keras, Flax and Haiku.

LTC and CfC: ncps. sLSTM and mLSTM: xlstm. EchoState: reservoirpy. What torchrecurrent has is compared in
test_parity_torchrecurrent.py, the LSTM, GRU and Elman of all libraries in test_parity.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import rnncells as r
from rnncells.convert.arrays import regate
from tests.cases import random_params, run, to_numpy
from tests.test_convert import lenient
from tests.test_convert_parity import keras

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("x64")]
__all__ = ["keras"]  # a fixture

T, B, I, H = 7, 5, 3, 4  # noqa: E741


def normal(rng, *shape):
    return 0.7 * rng.standard_normal(shape)


def drawn(rng, tree):
    return jax.tree.map(lambda leaf: normal(rng, *leaf.shape), tree)


def same(ours, peers, rtol=1e-9, atol=1e-12):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(peers), strict=True):
        np.testing.assert_allclose(a, b, rtol, atol)


def randomised(rng, module):
    """The module of PyTorch in double precision, all that trains drawn; and its parameters as arrays."""
    import torch

    module = module.double()
    for leaf in module.parameters():
        if leaf.requires_grad:
            leaf.data = torch.tensor(normal(rng, *leaf.shape))
    return module, {name: leaf.detach().numpy() for name, leaf in module.named_parameters()}


def unrolled(tick, *sequences):
    """The last state and all states of tick(state, *inputs) -> state, from zeros [B, H]."""
    import torch

    state, ys = torch.zeros(B, H, dtype=torch.float64), []
    with torch.no_grad():
        for inputs in zip(*map(torch.tensor, sequences), strict=True):
            state = tick(state, *inputs)
            ys.append(state)
    return state, torch.stack(ys)


# ncps, of the authors of LTC and CfC

LTC_NAMES = {"capacity": "cm", "leak": "gleak", "rest": "vleak", "input_scale": "input_w"} | {
    f"{ours}{name}": f"{theirs}{peer}"
    for ours, theirs in (("", ""), ("sense_", "sensory_"))
    for name, peer in {"strength": "w", "slope": "sigma", "centre": "mu", "reversal": "erev"}.items()
}


def test_ltc(rng):
    from ncps.torch import LTCCell
    from ncps.wirings import FullyConnected

    peer = LTCCell(FullyConnected(H), I, output_mapping=None, epsilon=0.0, implicit_param_constraints=True)
    peer, theirs = randomised(rng, peer)
    xs, elapsed = normal(rng, T, B, I), np.abs(normal(rng, T, B, 1))
    results = unrolled(lambda v, x, elapsed: peer(x, v, elapsed)[1], xs, elapsed)
    params = {ours: theirs[name] for ours, name in LTC_NAMES.items()} | {"input_bias": theirs["input_b"]}
    same(run(r.LTC(H), params, r.Timed(xs, elapsed)), results)


def from_cfc(cell, theirs):
    layers = [2 * layer for layer in range(1, cell.backbone_layers)]  # activations are in between
    first = theirs["backbone.0.weight"].T
    heads = ["ff1"] if cell.mode == "pure" else ["ff1", "ff2", "time_a", "time_b"]
    params = {
        "kernel": first[:I],
        "recurrent_kernel": first[I:],
        "bias": theirs["backbone.0.bias"],
        "head_kernel": np.concatenate([theirs[f"{head}.weight"].T for head in heads], -1),
        "head_bias": np.concatenate([theirs[f"{head}.bias"] for head in heads]),
    }
    if layers:
        params["layer_kernels"] = np.stack([theirs[f"backbone.{layer}.weight"].T for layer in layers])
        params["layer_biases"] = np.stack([theirs[f"backbone.{layer}.bias"] for layer in layers])
    if cell.mode == "pure":
        params |= {"limit": theirs["A"][0], "decay": theirs["w_tau"][0]}
    return params


@pytest.mark.parametrize(("mode", "layers"), [("default", 1), ("default", 3), ("no_gate", 2), ("pure", 2)])
def test_cfc(rng, mode, layers):
    from ncps.torch import CfCCell

    cell = r.CfC(H, mode=mode, backbone_units=6, backbone_layers=layers)
    peer, theirs = randomised(rng, CfCCell(I, H, mode, backbone_units=6, backbone_layers=layers))
    xs, elapsed = normal(rng, T, B, I), np.abs(normal(rng, T, B, 1))
    results = unrolled(lambda h, x, elapsed: peer(x, h, elapsed)[1], xs, elapsed)
    same(run(cell, from_cfc(cell, theirs), r.Timed(xs, elapsed)), results)


# xlstm, of the authors of sLSTM and mLSTM


@pytest.mark.parametrize("heads", [1, 2])
def test_slstm(rng, heads):
    import torch
    from xlstm.blocks.slstm.cell import sLSTMCell_vanilla, sLSTMCellConfig

    width = H // heads
    peer, theirs = randomised(rng, sLSTMCell_vanilla(sLSTMCellConfig(H, heads, backend="vanilla")))
    kernel, xs = normal(rng, I, 4 * H), normal(rng, T, B, I)
    with torch.no_grad():  # the peer's layer has the kernel of the input
        ys, state = peer(torch.tensor(xs @ kernel).transpose(0, 1))
    recurrent = theirs["_recurrent_kernel_"].reshape(heads, 4, width, width)  # head, gate, to, from
    params = {
        "kernel": kernel,
        "recurrent_kernel": recurrent.transpose(3, 1, 0, 2).reshape(width, 4 * H),
        "bias": theirs["_bias_"],
    }
    (((total, count), log_scale), hidden), our_ys = run(r.SLSTM(H, heads=heads), params, xs)
    same(our_ys, ys.permute(2, 0, 1, 3).reshape(T, B, H))
    same((hidden, total, count, log_scale), tuple(state))


@pytest.mark.parametrize("heads", [1, 2])
def test_mlstm(rng, heads):
    """The peer has the memory alone: it is given queries, keys, values and gates."""
    import torch
    from xlstm.blocks.mlstm.backends import recurrent_step_stabilized_simple

    cell, width = r.MLSTM(H, heads=heads), H // heads
    params = to_numpy(random_params(cell, input_size=I, dtype=jnp.float64))
    xs = normal(rng, T, B, I)
    q, k, v, o = np.split(xs @ params["kernel"] + params["bias"], 4, -1)
    i, f = np.split(xs @ params["gate_kernel"] + params["gate_bias"], 2, -1)
    state = [torch.zeros(B, heads, *size).double() for size in ((width, width), (width, 1), (1, 1))]
    ys = []
    for t in range(T):
        qkv = [torch.tensor(part[t].reshape(B, heads, 1, width)) for part in (q, k, v)]
        gates = [torch.tensor(part[t].reshape(B, heads, 1, 1)) for part in (i, f)]
        h, state = recurrent_step_stabilized_simple(*state, *qkv, *gates, eps=0.0)
        ys.append(h.numpy().reshape(B, H) / (1 + np.exp(-o[t])))
    ((memory, norm), log_scale), our_ys = run(cell, params, xs)
    same(our_ys, np.stack(ys))
    same((memory, norm[..., None], log_scale[..., None, None]), tuple(state))


# reservoirpy


def test_echo_state(rng):
    from reservoirpy.nodes import Reservoir

    cell = r.EchoState(12, spectral_radius=0.8, leak=0.3, input_scale=0.6, bias_scale=0.4, density=0.3)
    weights = to_numpy(cell.prepare({}, like=jax.ShapeDtypeStruct((I,), jnp.float64)))
    peer = Reservoir(lr=0.3, Win=weights["kernel"].T, W=weights["recurrent_kernel"].T, bias=weights["bias"])
    xs = normal(rng, T, B, I)
    ys = np.swapaxes(peer.run(np.swapaxes(xs, 0, 1)), 0, 1)
    same(run(cell, {}, xs), (ys[-1], ys))


# PyTorch


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported:UserWarning")
def test_lstmp(rng):
    import torch

    peer, theirs = randomised(rng, torch.nn.LSTM(I, H, proj_size=2))
    params = {
        "kernel": theirs["weight_ih_l0"].T,
        "recurrent_kernel": theirs["weight_hh_l0"].T,
        "bias": theirs["bias_ih_l0"] + theirs["bias_hh_l0"],
        "projection_kernel": theirs["weight_hr_l0"].T,
        "peephole": np.zeros((3, H)),
    }
    xs = normal(rng, T, B, I)
    with torch.no_grad():
        ys, (h, c) = peer(torch.tensor(xs))
    same(run(r.LSTMP(H, size=2), params, xs), ((c[0], h[0]), ys))


# Keras, Flax and Haiku: convolutional LSTMs, and Flax's minimal gated unit


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("shape", [(6,), (5, 4), (4, 3, 3)], ids=["1D", "2D", "3D"])
def test_keras_conv_lstm(rng, keras, shape):
    """In single precision, to which Keras's tanh rounds whatever the dtype of the layer."""
    options = {"padding": "same", "return_sequences": True, "return_state": True}
    layer = getattr(keras.layers, f"ConvLSTM{len(shape)}D")(H, 3, **options)
    xs = normal(rng, T, B, *shape, I).astype(np.float32)
    layer.build((B, T, *shape, I))
    weights = [leaf.astype(np.float32) for leaf in drawn(rng, layer.get_weights())]
    layer.set_weights(weights)
    ys, h, c = layer(xs.swapaxes(0, 1))
    names = ("kernel", "recurrent_kernel", "bias")
    params = {name: regate(leaf, "ifgo", r.ConvLSTM.gates) for name, leaf in zip(names, weights, strict=True)}
    same(run(r.ConvLSTM(H, shape), params, xs), ((c, h), ys.swapaxes(0, 1)), rtol=1e-5, atol=1e-5)


def from_two_convolutions(read, recur, kernel, bias):
    """Flax's and Haiku's: a bias each, blocks in the order i, g, f, o, and a 1 that is added to f."""
    added = read[bias] + recur[bias] + np.repeat([0.0, 0.0, 1.0, 0.0], H)
    params = {"kernel": read[kernel], "recurrent_kernel": recur[kernel], "bias": added}
    return {name: regate(leaf, "igfo", r.ConvLSTM.gates) for name, leaf in params.items()}


def test_flax_conv_lstm(rng):
    peer = linen.ConvLSTMCell(H, (3,), param_dtype=jnp.float64)
    xs = normal(rng, T, B, 6, I)
    start = (np.zeros((B, 6, H)),) * 2
    with lenient():
        theirs = drawn(rng, peer.init(jax.random.key(0), start, xs[0]))
        carry, ys = jax.lax.scan(functools.partial(peer.apply, theirs), start, xs)
    params = from_two_convolutions(theirs["params"]["ih"], theirs["params"]["hh"], "kernel", "bias")
    same(run(r.ConvLSTM(H, (6,)), params, xs), (carry, ys))


def test_haiku_conv_lstm(rng):
    import haiku

    xs = normal(rng, T, B, 6, I)
    start = haiku.LSTMState(*(np.zeros((B, 6, H)),) * 2)
    forward = haiku.transform(
        lambda xs: haiku.dynamic_unroll(haiku.Conv1DLSTM((6,), H, 3, name="core"), xs, start)
    )
    with lenient():
        theirs = drawn(rng, forward.init(jax.random.key(0), xs))
        ys, (h, c) = forward.apply(theirs, None, xs)
    convolutions = theirs["core/input_to_hidden"], theirs["core/hidden_to_hidden"]
    params = from_two_convolutions(*convolutions, "w", "b")
    same(run(r.ConvLSTM(H, (6,)), params, xs), ((c, h), ys))


def flax_mgu(rng, xs, **options):
    layer = linen.RNN(
        linen.MGUCell(H, param_dtype=jnp.float64, **options), time_major=True, return_carry=True
    )
    with lenient():
        theirs = drawn(rng, layer.init(jax.random.key(0), xs))
        return theirs["params"]["cell"], layer.apply(theirs, xs)


def from_flax_mgu(theirs, gates):
    """The blocks of these gates, f or n, one after the other."""
    return {
        "kernel": np.concatenate([theirs[f"i{gate}"]["kernel"] for gate in gates], -1),
        "recurrent_kernel": np.concatenate([theirs[f"h{gate}"]["kernel"] for gate in gates], -1),
        "bias": np.concatenate([theirs[f"i{gate}"]["bias"] for gate in gates]),
    }


def test_flax_mgu(rng):
    """It is a GRU whose two gates are one and the same, and without the reset a UGRNN. The paper's it is not:
    there the gate that resets lets the new value in."""
    xs = normal(rng, T, B, I)
    theirs, results = flax_mgu(rng, xs)
    recurrent_bias = {"recurrent_bias": theirs["hn"]["bias"]}
    same(run(r.GRU(H), from_flax_mgu(theirs, "ffn") | recurrent_bias, xs), results)
    params = from_flax_mgu(theirs, "fn")
    for sign in (1, -1):
        signs = np.repeat([sign, 1.0], H)
        _, ys = run(r.MGU(H), {name: signs * leaf for name, leaf in params.items()}, xs)
        assert np.abs(ys - results[1]).max() > 1e-2
    theirs, results = flax_mgu(rng, xs, reset_gate=False)
    same(run(r.UGRNN(H), from_flax_mgu(theirs, "fn"), xs), results)
