"""The examples in the docstrings of the converters are executed."""

import inspect

import flax
import jax
import numpy as np
import pytest
from flax import linen, nnx

import rnncells
from rnncells import GRU, convert
from tests.test_convert import lenient
from tests.test_convert_parity import keras

__all__ = ["keras"]  # a fixture
LIBRARIES = ("torch", "keras", "haiku", "linen", "nnx")
KEY = jax.random.key(0)


def example(function):
    """The indented lines of a docstring before its arguments."""
    text = inspect.getdoc(function).partition("Args:")[0]
    code = "\n".join(line[4:] for line in text.split("\n") if line.startswith("    "))
    assert code, function
    return code


def run(names, *functions):
    """Their examples, one after the other."""
    names |= {"rnncells": rnncells, "flax": flax, "nnx": nnx, "np": np, "key": KEY}
    names |= {name: getattr(convert, name) for name in convert.__all__}
    with lenient():
        for function in functions:
            exec(example(getattr(convert, function)), names)
    return names


def both(library):
    return f"from_{library}", f"to_{library}"


def test_every_function_is_here():
    models = {name for library in LIBRARIES[:2] + LIBRARIES[3:] for name in both(f"{library}_model")}
    layers = {name for library in LIBRARIES for name in both(library)}
    assert set(convert.__all__) == {"negate_gate"} | layers | models


def test_negate_gate():
    cell = GRU(8, reset_after=False)
    before = cell.init(KEY, 4)
    after = run({"GRU": GRU, "params": before}, "negate_gate")["params"]
    np.testing.assert_array_equal(after["kernel"][:, 8:16], -before["kernel"][:, 8:16])


class LinenModel(linen.Module):
    encoder: linen.Module

    @linen.compact
    def __call__(self, xs):
        return linen.Dense(2)(self.encoder(xs))


def test_linen():
    xs = np.ones((3, 5, 4), np.float32)
    names = {"xs": xs, "x": xs[:, 0], "carry": np.zeros((3, 8), np.float32)}
    names = run(names, *both("linen"))
    assert names["cell"] == GRU(8)
    with lenient():
        model = LinenModel(linen.RNN(linen.GRUCell(8)))
        before = model.init(KEY, xs)
        after = run({"xs": xs, "variables": before}, *both("linen_model"))
    assert after["ys"].shape == (3, 5, 8)
    assert jax.tree.all(jax.tree.map(np.array_equal, after["variables"], before))


class NnxModel(nnx.Module):
    def __init__(self, rngs):
        self.encoder = nnx.RNN(nnx.GRUCell(4, 8, rngs=rngs))
        self.head = nnx.Linear(8, 2, rngs=rngs)


@pytest.mark.laws
def test_nnx():
    rngs = nnx.Rngs(0)
    assert run({"module": nnx.GRUCell(4, 8, rngs=rngs)}, *both("nnx"))["cell"] == GRU(8)
    model = NnxModel(rngs)
    names = run({"model": model, "rngs": rngs}, *both("nnx_model"))
    assert names["layer"](np.ones((3, 5, 4), np.float32)).shape == (3, 5, 8)


@pytest.mark.parity
def test_torch(tmp_path, monkeypatch):
    import torch
    from safetensors.torch import save_file

    encoder = torch.nn.ModuleDict({"rnn": torch.nn.GRU(4, 8)})
    model = torch.nn.ModuleDict({"encoder": encoder, "head": torch.nn.Linear(8, 2)})
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    names = run({"torch": torch, "module": encoder["rnn"]}, *both("torch"))
    assert names["cell"] == GRU(8)
    names = run({"torch": torch, "model": model, "xs": np.ones((5, 3, 4), np.float32)}, *both("torch_model"))
    assert names["ys"].shape == (5, 3, 8)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_keras(keras):
    layer = keras.layers.LSTM(8, return_sequences=True, name="lstm")
    model = keras.Sequential([keras.Input((5, 4)), layer])
    kernel, recurrent_kernel, bias = layer.get_weights()
    names = {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias}
    names = run(names | {"model": model, "layer": layer}, *both("keras"))
    assert names["cell"] == rnncells.LSTM(8)
    layer = keras.layers.LSTM(8, return_sequences=True, name="encoder")
    model = keras.Sequential([keras.Input((5, 4)), layer])
    names = run({"model": model, "xs": np.ones((3, 5, 4), np.float32)}, *both("keras_model"))
    assert names["ys"].shape == (3, 5, 8)


@pytest.mark.parity
def test_haiku():
    import haiku

    @haiku.transform
    def agent(xs):
        return haiku.dynamic_unroll(haiku.LSTM(8), xs, haiku.LSTM(8).initial_state(3))

    with lenient():
        params = agent.init(KEY, np.ones((5, 3, 4), np.float32))
    params = {f"agent/~/{name}": leaves for name, leaves in params.items()}
    assert run({"haiku_params": params}, *both("haiku"))["cell"] == rnncells.LSTM(8)
