"""The cells against torchrecurrent's layers: the same weights give the same numbers.

A case names the gates in every parameter of the peer's, in our letters. Its parameters are all random but for
those in `zero`, where the peer is another cell than its paper's; DEVIATES says how.
"""

import importlib
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import rnncells as r
from tests.cases import run, to_numpy

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("x64")]

T, B, I, H = 7, 5, 3, 4  # noqa: E741


def fused(blocks, gates):
    return np.concatenate([blocks[gate] for gate in gates], -1)


class Case(NamedTuple):
    """Functions take b, the peer's parameters: b["weight_ih"]["f"] is the kernel [I, H] of the gate f."""

    cell: r.Cell
    gates: Mapping[str, Any]
    zero: Mapping[str, Any] = {}
    also: Callable = lambda b: {}
    """Parameters of ours that are not the fused gates of weight_ih and weight_hh, nor a sum of biases."""
    state: Callable = lambda carry, b: (carry,)
    """Our state as the peer's."""
    seen: Callable = lambda ys, b: ys
    """Our outputs as the peer's."""
    options: Mapping[str, Any] = {}
    size: int = I


def gates(read, recur=None, **others):
    """In the four parameters that most layers have, and in others; biases have the gates of their kernels."""
    recur = read if recur is None else recur
    return {"weight_ih": read, "weight_hh": recur, "bias_ih": read, "bias_hh": recur} | others


def lstm_state(carry, b):
    return carry.hidden, carry.cell


def both(carry, b):
    return tuple(carry)


def typed_state(carry, b):
    """Of the input before, our state has the product with V."""
    return carry.cell, carry.before @ np.linalg.pinv(fused(b["weight_hh"], "zfo"))


def skew(b):
    kernel = b["weight_hh"]["h"]
    return {"skew": (kernel - kernel.T)[np.triu_indices(H, 1)]}


def scrn_output(y, b):
    """What the peer's layer makes of the hidden and the context units."""
    kernel = np.concatenate([b["weight_hh"]["y"], b["weight_ch"]["y"]])
    return np.tanh(y @ kernel + b["bias_hh"]["y"] + b["bias_ch"]["y"])


def previous(b):
    return {"previous_kernel": fused(b["weight_hh"], "zfo")}


TANH = {"candidate_activation": "tanh", "output_activation": "tanh"}
EULER = {"epsilon": 0.3, "gamma": 0.7}
STEP = {"dt": 0.3, "gamma": 0.7}
OSCILLATOR = {"dt": 0.3, "gamma": 1.7, "epsilon": 0.6}
CASES = {
    "AntisymmetricRNN": Case(r.AntisymmetricRNN(H, **STEP), gates("h"), also=skew, options=EULER),
    "GatedAntisymmetricRNN": Case(
        r.GatedAntisymmetricRNN(H, **STEP), gates("zh", "h"), also=skew, options=EULER
    ),
    "ATR": Case(r.ATR(H, use_bias=True), gates("p"), {"bias_hh": "p"}),
    "BR": Case(
        r.BRC(H),
        gates("ach", "ac"),
        {"bias_ih": "h"},
        lambda b: {"recurrent_weight": np.stack([b["weight_hh"][gate] for gate in "ac"])},
    ),
    "NBR": Case(r.NBRC(H), gates("ach", "ac"), {"bias_ih": "h"}),
    "CFN": Case(r.CFN(H), gates(("theta", "eta", "c"), ("theta", "eta")), {"bias_ih": "c"}),
    "coRNN": Case(
        r.CoRNN(H, **OSCILLATOR),
        gates("h", weight_ch="h", bias_ch="h"),
        also=lambda b: {"velocity_kernel": b["weight_ch"]["h"]},
        state=both,
        options=OSCILLATOR,
    ),
    "FastRNN": Case(
        r.FastRNN(H),
        gates("h", alpha="a", beta="b"),
        also=lambda b: {"alpha": b["alpha"]["a"][0], "beta": b["beta"]["b"][0]},
    ),
    "FastGRNN": Case(
        r.FastGRNN(H),
        gates("c", zeta="z", nu="n") | {"bias_ih": "zc", "bias_hh": "zc"},
        also=lambda b: {"zeta": b["zeta"]["z"][0], "nu": b["nu"]["n"][0]},
        options={"nonlinearity": "sigmoid"},
    ),
    "IndRNN": Case(
        r.IndRNN(H, activation="tanh"),
        {"weight_ih": "h", "vector_u": "h", "bias_ih": "h", "bias_hh": "h"},
        also=lambda b: {"recurrent_weight": b["vector_u"]["h"]},
    ),
    "IntersectionRNN": Case(r.IntersectionRNN(H), gates("dcpg"), size=H),
    "JANET": Case(r.JANET(H), gates("fg"), state=lambda carry, b: (carry, carry)),
    "LEM": Case(
        r.LEM(H, dt=0.7),
        gates("qpzy", "qpz", weight_ch="y", bias_ch="y"),
        {"weight_ch": "y"},
        lambda b: {"memory_kernel": b["weight_ch"]["y"]},
        both,
        options={"dt": 0.7},
    ),
    "LiGRU": Case(r.LiGRU(H), gates("zn")),
    "LightRU": Case(r.LightRU(H), gates("nf", "f"), {"bias_ih": "n"}),
    "MCLSTM": Case(r.MCLSTM(H), gates("fiomg"), state=lambda carry, b: (carry.control, carry.cell)),
    "MGU": Case(r.MGU(H), gates("fn")),
    "MinimalRNN": Case(
        r.MinimalRNN(H), gates("z", "u", weight_mm="u"), also=lambda b: {"latent_kernel": b["weight_mm"]["u"]}
    ),
    "MultiplicativeLSTM": Case(
        r.MultiplicativeLSTM(H),
        gates("mifgo", "m", weight_mh="ifgo", bias_mh="ifgo"),
        {"bias_ih": "m", "bias_hh": "m"},
        lambda b: {"recurrent_kernel": fused(b["weight_hh"] | b["weight_mh"], "mifgo")},
        lstm_state,
    ),
    "MUT1": Case(
        r.MUT1(H), gates("zrn", "rn"), {"bias_ih": "n"}, lambda b: {"input_kernel": b["weight_ih"]["n"]}
    ),
    "MUT2": Case(r.MUT2(H), gates("zrn"), also=lambda b: {"input_kernel": b["weight_ih"]["r"]}),
    "MUT3": Case(r.MUT3(H), gates("zrn")),
    "NAS": Case(
        r.NAS(H, use_bias=True),
        gates(r.NAS.gates),
        dict.fromkeys(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), ("s3",)),
        state=lstm_state,
    ),
    "OriginalLSTM": Case(r.OriginalLSTM(H, **TANH), gates("igo"), state=lstm_state),
    "PeepholeLSTM": Case(
        r.PeepholeLSTM(H),
        gates("ifgo", weight_ph="ifo"),
        also=lambda b: {"peephole": np.stack([b["weight_ph"][gate] for gate in "ifo"])},
        state=lstm_state,
    ),
    "RAN": Case(
        r.RAN(H), gates("cif", "if") | {"bias_ih": "if"}, state=lambda carry, b: (np.tanh(carry), carry)
    ),
    "SCRN": Case(
        r.SCRN(H, context=H, decay=0.5, use_bias=True),
        gates("sh", "hy", weight_ch="hy", bias_ch="hy"),
        {"weight_hh": "h", "bias_ih": "s"},
        lambda b: {"context_kernel": b["weight_ih"]["s"], "context_to_hidden": b["weight_ch"]["h"]},
        lambda carry, b: (scrn_output(np.concatenate(carry, -1), b), carry.context),
        scrn_output,
    ),
    "SGRN": Case(r.SGRN(H), gates("f"), {"bias_ih": "f"}),
    "SGU": Case(r.SGU(H, gate_activation=jax.nn.hard_sigmoid), gates("gz"), {"bias_hh": "gz"}),
    "DSGU": Case(
        r.DSGU(H, gate_activation=jax.nn.hard_sigmoid),
        gates("gz", weight_ho="o"),
        {"bias_hh": "gz"},
        lambda b: {"recurrent_kernel": fused(b["weight_hh"] | b["weight_ho"], "gzo")},
    ),
    "STAR": Case(r.STAR(H), gates("zk", "k")),
    "tauGRU": Case(
        r.TauGRU(H, delay=2), gates("uzga"), state=lambda carry, b: (carry.hidden,), options={"delay": 2}
    ),
    "TRNN": Case(r.TRNN(H), {"weight_ih": "zf", "bias_ih": "zf"}, {"bias_ih": "z"}),
    "TGRU": Case(r.TGRU(H), gates("zfo"), also=previous, state=typed_state),
    "TLSTM": Case(r.TLSTM(H), gates("zfo"), also=previous, state=typed_state),
    "UGRNN": Case(r.UGRNN(H), gates("cg")),
    "UnICORNN": Case(
        r.UnICORNN(H, dt=0.3, alpha=1.7),
        gates("h", weight_ch="h"),
        also=lambda b: {"frequency": b["weight_hh"]["h"], "step_logit": b["weight_ch"]["h"]},
        state=both,
        options={"dt": 0.3, "alpha": 1.7, "recurrent_bias": True},
    ),
    "WMCLSTM": Case(
        r.WMCLSTM(H),
        gates("ifgo", weight_mh="ifo", bias_mh="ifo"),
        {"bias_mh": "ifo"},
        lambda b: {"memory_kernel": fused(b["weight_mh"], "ifo")},
        lstm_state,
    ),
}
ABSENT = {"MiRU1", "MiRU2", "ResLSTM"}
"""Layers of cells that are not here."""
DEVIATES = [
    ("ATR", "a bias on the product with the state", {"zero": {}}),
    ("BR", "a bias on the candidate", {"zero": {}}),
    ("NBR", "a bias on the candidate", {"zero": {}}),
    ("CFN", "a bias on the candidate", {"zero": {}}),
    ("FastGRNN", "the gate passes the candidate's tanh, unless it is told otherwise", {"options": {}}),
    ("LEM", "the output reads the memory before the tick, not after", {"zero": {}}),
    ("LightRU", "a bias on the candidate", {"zero": {}}),
    ("MultiplicativeLSTM", "biases on both factors of the product", {"zero": {}}),
    ("MUT1", "a bias within the inner tanh", {"zero": {}}),
    ("MUT1", "a kernel in front of the input of the candidate", {"size": H, "also": lambda b: {}}),
    ("MUT2", "a kernel in front of the input of the reset gate", {"size": H, "also": lambda b: {}}),
    ("NAS", "the fourth pair is added, not multiplied", {"zero": {}}),
    ("OriginalLSTM", "tanh in place of 4 s(x) - 2 and 2 s(x) - 1", {"cell": r.OriginalLSTM(H)}),
    ("SCRN", "what recurs is the output of a further layer", {"zero": {"bias_ih": "s"}}),
    ("SCRN", "a bias on the context", {"zero": {"weight_hh": "h"}}),
    ("SGRN", "the bias of the gate on the candidate as well", {"zero": {}}),
    ("SGU", "PyTorch's hard sigmoid, of slope 1/6, in place of Theano's", {"cell": r.SGU(H)}),
    ("SGU", "biases on the products with the state", {"zero": {}}),
    ("DSGU", "PyTorch's hard sigmoid, of slope 1/6, in place of Theano's", {"cell": r.DSGU(H)}),
    ("DSGU", "biases on the products with the state", {"zero": {}}),
    ("TRNN", "a bias on the candidate", {"zero": {}}),
    ("WMCLSTM", "biases within the tanh", {"zero": {}}),
]
"""Where torchrecurrent 0.2.5 is another cell than the paper's, and the change of its case that shows it."""


def theirs(rng, name, case):
    """The peer's parameters, and what it makes of random inputs."""
    import torch
    import torchrecurrent

    layer = getattr(torchrecurrent, name)(case.size, H, **case.options).double()
    own, b = dict(layer.cells[0].named_parameters()), {}
    # JANET's beta and SCRN's alpha, which the papers do not train, are scalars.
    for parameter, leaf in [(parameter, leaf) for parameter, leaf in own.items() if leaf.ndim]:
        drawn = 0.7 * rng.standard_normal(leaf.shape)
        names = case.gates[parameter]
        blocks = dict(zip(names, np.split(drawn, len(names)), strict=True))
        for gate in case.zero.get(parameter, ()):
            blocks[gate][...] = 0
        b[parameter] = {gate: block.T for gate, block in blocks.items()}
        leaf.data = torch.tensor(drawn)
    assert set(b) == set(case.gates)
    xs = rng.standard_normal((T, B, case.size))
    with torch.no_grad():
        ys, state = layer(torch.tensor(xs))
    return xs, b, ys.numpy(), [leaf.numpy().reshape(B, -1) for leaf in jax.tree.leaves(state)]


def from_torchrecurrent(case, b):
    cell = case.cell
    added = {}
    for name in [name for name in b if name.startswith("bias")]:
        added |= {gate: added.get(gate, 0) + block for gate, block in b[name].items()}
    sources = {"kernel": b["weight_ih"], "recurrent_kernel": b.get("weight_hh", {}), "bias": added}
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), case.size))
    params = case.also(b)
    for kind, name in (("input", "kernel"), ("recurrent", "recurrent_kernel"), ("biased", "bias")):
        if name in shapes and name not in params:
            order = getattr(cell, f"{kind}_gates", None) or cell.gates
            params[name] = fused(sources[name], order)
    return params


def compared(rng, name, case):
    """Pairs of ours and theirs: the outputs, then each part of the last state."""
    xs, b, ys, state = theirs(rng, name, case)
    carry, our_ys = to_numpy(run(case.cell, from_torchrecurrent(case, b), xs))
    return [(case.seen(our_ys, b), ys), *zip(case.state(carry, b), state, strict=True)]


@pytest.mark.parametrize("name", CASES)
def test_agrees(rng, name):
    for ours, peers in compared(rng, name, CASES[name]):
        np.testing.assert_allclose(ours, peers, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "reason", "change"), DEVIATES, ids=map(operator.itemgetter(0), DEVIATES))
def test_deviates(rng, name, reason, change):
    (ours, peers), *_ = compared(rng, name, CASES[name]._replace(**change))
    assert np.abs(ours - peers).max() > 1e-3, f"{name}: no longer {reason}"


def test_every_layer_is_listed():
    import torchrecurrent

    layers = {name for name in torchrecurrent.__all__ if not name.endswith("Cell")}
    assert layers == set(CASES) | ABSENT
    assert {name for name, case in CASES.items() if case.zero} <= {name for name, *_ in DEVIATES}
    with pytest.raises(ImportError, match="BaseRecurrentLayer"):  # so that RHN has no peer
        importlib.import_module("torchrecurrent.cells.rhn_cell")
