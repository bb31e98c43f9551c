"""What the converters refuse, and in which words."""

import jax
import numpy as np
import pytest
from flax import nnx

from rnncells import GRU, LRU, LSTM, MGU, Bidirectional, Stack, Zoneout, convert
from tests.test_convert import H, I


def some(cell):
    """Params of the right shapes: nothing here looks at their values."""
    shapes = jax.eval_shape(lambda key: cell.init(key, I), jax.random.key(0))
    return jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)


RELU, BEFORE = LSTM(H, candidate_activation="relu"), GRU(H, reset_after=False)
LSTM_PARAMS, GRU_PARAMS, BEFORE_PARAMS = map(some, (LSTM(H), GRU(H), BEFORE))
STATE, LINEN = convert.to_torch(LSTM(H), LSTM_PARAMS), convert.to_linen(GRU(H), GRU_PARAMS)
MIXED, SKIP = Stack([LSTM(H), GRU(H)]), Stack([GRU(H), GRU(H)], skip=True)
SUM = Bidirectional(GRU(H), merge="sum")
WITHOUT = {name: leaf for name, leaf in STATE.items() if name != "bias_hh_l0"}
WIDE = {**STATE, "weight_ih_l0": np.ones((3, 3))}
ONE = np.ones((H, H))
TWO = {"weight_ih_l0": np.ones((10, 3)), "weight_hh_l0": np.ones((10, 5))}
MGU_TREE = {name: {"kernel": ONE} for name in ("if", "in", "hf", "hn")}
CONV = {name: {"kernel": ONE} for name in ("ih", "hh")}
BAD = {
    "missing": (convert.from_torch, [WITHOUT], "state_dict: missing bias_hh_l0"),
    "left over": (convert.from_torch, [{**STATE, "x": ONE}], "state_dict: unexpected x"),
    "shape": (convert.from_torch, [WIDE], r"weight_ih_l0: expected shape \[20, 3\], got float64\[3,3\]"),
    "integers": (convert.from_torch, [{**STATE, "bias_hh_l0": [1, 2]}], "bias_hh_l0: expected floating"),
    "no mapping": (convert.from_torch, [[ONE]], "state_dict: expected a mapping .* or the path"),
    "pickle": (convert.from_torch, ["model.pt"], "state_dict: expected a .safetensors file, got model.pt"),
    "ratio": (convert.from_torch, [TWO], r"weight_hh_l0: expected 4 \(LSTM\), 3 .* for 5 units"),
    "torch activation": (convert.to_torch, [RELU, LSTM_PARAMS], "candidate_activation='tanh' only"),
    "torch reset": (convert.to_torch, [BEFORE, BEFORE_PARAMS], "reset_after=True only"),
    "torch other": (convert.to_torch, [MGU(H), some(MGU(H))], "PyTorch .* LSTM, GRU, Elman, got"),
    "other params": (convert.to_torch, [BEFORE, LSTM_PARAMS], "params: for xs with 3 features"),
    "torch skip": (convert.to_torch, [SKIP, some(SKIP)], "Stacks with skip=False only"),
    "torch merge": (convert.to_torch, [SUM, some(SUM)], "Bidirectionals with merge='concat' only"),
    "torch mixed": (convert.to_torch, [MIXED, some(MIXED)], "cell: a PyTorch module has one kind"),
    "no params": (convert.to_torch, [LSTM(H), {}], "params: expected the tree of cell.init, got {}"),
    "keras count": (convert.from_keras, [[ONE]], "layer: expected the arrays kernel, .* got 1"),
    "keras ratio": (convert.from_keras, [[ONE, ONE[:2]]], "recurrent_kernel: expected 4 .* as many columns"),
    "keras GRU": (convert.from_keras, [[np.ones((3, 15)), np.ones((5, 15))]], "expected the bias of a GRU"),
    "keras layer": (convert.from_keras, [SUM], "layer: expected a Keras LSTM"),
    "keras stack": (convert.to_keras, [MIXED, some(MIXED)], "cell: Keras has counterparts of LSTM"),
    "keras activations": (convert.to_keras, [RELU, LSTM_PARAMS], "cell: Keras has one activation"),
    "linen missing": (convert.from_linen, [{**LINEN, "hn": {}}], "variables: missing hn/kernel, hn/bias"),
    "linen MGU": (convert.from_linen, [MGU_TREE], "variables: .* got an MGUCell"),
    "linen model": (
        convert.from_linen,
        [{"RNN_0": LINEN}],
        "one cell, got RNN_0; from_linen_model",
    ),
    "linen conv": (convert.from_linen, [CONV], "variables: .* got a ConvLSTMCell"),
    "linen reset": (convert.to_linen, [BEFORE, BEFORE_PARAMS], "GRUs with reset_after=True only"),
    "nnx bias": (convert.to_nnx, [GRU(H), GRU_PARAMS], r"params\['recurrent_bias'\]: expected zeros"),
    "haiku two": (convert.from_haiku, [{"a": {}, "b": {}}], "name: expected the core's, .* a, b"),
    "haiku rows": (convert.from_haiku, [{"a/linear": {"w": ONE, "b": ONE}}], "linear/w: expected .I . H, 4H"),
    "haiku reset": (convert.to_haiku, [GRU(H), GRU_PARAMS], "Haiku has GRUs with reset_after=False only"),
}


for call in (convert.to_torch, convert.to_keras, convert.to_linen, convert.to_nnx, convert.to_haiku):
    BAD[f"{call.__name__} LRU"] = (
        call,
        [LRU(H), some(LRU(H))],
        "has counterparts of LSTM, GRU, Elman, got",
    )
    BAD[f"{call.__name__} wrapped"] = (
        call,
        [Zoneout(LSTM(H), rate=0.1), LSTM_PARAMS],
        "counterparts of .* Zoneout",
    )


@pytest.mark.parametrize(("call", "arguments", "words"), BAD.values(), ids=BAD.keys())
def test_refuses(call, arguments, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call(*arguments)


def test_refuses_options():
    with pytest.raises(ValueError, match=r"bias_ih_l0: expected zeros, because the module has no bias"):
        convert.to_torch(LSTM(H), LSTM_PARAMS, bias=False)
    with pytest.raises(ValueError, match="nonlinearity: expected 'tanh', as these are the weights of a LSTM"):
        convert.from_torch(STATE, nonlinearity="relu")
    with pytest.raises(ValueError, match=r"prefix: .* got 'rnn\.'; the names are .*weight_ih_l0"):
        convert.from_torch(STATE, prefix="rnn.")


class Own(nnx.LSTMCell):
    """A subclass, which may compute anything."""


def prefixed(entries):
    return {f"a.rnn.{name}": leaf for name, leaf in entries.items()}


TREE = {"a": {"cell": LINEN}, "head": {"kernel": ONE}}
OURS = convert.from_linen_model(TREE)[1]
NORMED = {"a.rnn.weight_hh_l0_g": ONE, "a.rnn.weight_hh_l0_v": ONE}
PARAMETRIZED = {"a.rnn.parametrizations.weight_hh_l0.original0": ONE}
WRONG = {"a": OURS["a"], "head": {"kernel": ONE[1:]}}
MODELS = {
    "torch left over": (
        convert.from_torch_model,
        [prefixed(STATE | {"fc.x": ONE})],
        "a.rnn: .* unexpected fc.x",
    ),
    "torch missing": (convert.from_torch_model, [prefixed(WITHOUT)], "a.rnn: .* missing bias_hh_l0"),
    "torch both": (
        convert.from_torch_model,
        [prefixed(STATE | {"bias_ih": ONE})],
        "a.rnn: .* unexpected bias_ih",
    ),
    "torch norm": (convert.from_torch_model, [NORMED], "a.rnn.weight_hh_l0_g: .* reparametrisation; remove"),
    "torch parametrize": (convert.from_torch_model, [PARAMETRIZED], "weight_hh_l0.original0: .* remove"),
    "torch kind": (convert.from_torch_model, [ONE], "state_dict: expected a mapping"),
    "torch back": (convert.to_torch_model, [OURS, prefixed(STATE)], "a.rnn: params: missing"),
    "keras kind": (convert.from_keras_model, [STATE], "model: expected a Keras model"),
    "linen MGU": (convert.from_linen_model, [{"a": {"b": MGU_TREE}}], "a/b: variables: .* an MGUCell"),
    "linen conv": (convert.from_linen_model, [{"a": {"cell": CONV}}], "a: variables: .* a ConvLSTMCell"),
    "linen more": (convert.from_linen_model, [{"a": LINEN | {"c": {"x": ONE}}}], "a: .* unexpected c/x"),
    "linen shape": (
        convert.from_linen_model,
        [{"i": {"kernel": ONE, "bias": ONE[0]}, "h": {"kernel": ONE[1:]}}],
        r"the model itself: h/kernel: expected shape \[5, 5\]",
    ),
    "linen kind": (convert.from_linen_model, [ONE], "variables: expected those of a linen model"),
    "linen back": (convert.to_linen_model, [{"a": OURS["a"]}, TREE], "params: missing head/kernel"),
    "linen back shape": (convert.to_linen_model, [WRONG, TREE], r"head/kernel: expected shape \[5, 5\]"),
    "linen back params": (
        convert.to_linen_model,
        [OURS | {"a": GRU_PARAMS}, TREE],
        "a: params: missing cell",
    ),
    "nnx own": (convert.from_nnx_model, [Own(3, 3, rngs=nnx.Rngs(0))], "itself: module: .* got Own"),
    "nnx kind": (convert.from_nnx_model, [ONE], "model: expected an nnx module or its state"),
}


@pytest.mark.parametrize(("call", "arguments", "words"), MODELS.values(), ids=MODELS.keys())
def test_refuses_models(call, arguments, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call(*arguments)
