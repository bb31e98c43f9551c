"""Data and models of users: what is fitted, asked and judged equals a computation by hand from the weights
that a run has left."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import experiments
from experiments import evaluate, fit, load
from experiments.harness import data, given
from experiments.harness.data import Parts
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.supervised import Classification, Finite
from rnncells.tasks.base import mean_of
from tests.echo import read

pytestmark = pytest.mark.usefixtures("standard_promotion")

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(60, 5, 2)).astype(np.float32)
LENGTHS = RNG.integers(1, 6, 60)
FIRST = (INPUTS[:, 0, 0] > 0).astype(int)
QUICK = {"features": 6, "epochs": 3, "batch_size": 8, "verbose": False}


def by_hand(path, inputs, lengths):
    """Logits of an Elman layer and the readout of its last state, from a file alone."""
    own = safetensors.numpy.load_file(path)
    cell = {
        name: own[f"params/RNN_0/cell/{name}"].astype(float)
        for name in ("kernel", "recurrent_kernel", "bias")
    }
    outputs = []
    for xs, length in zip(inputs, lengths, strict=True):
        h = np.zeros(len(cell["bias"]))
        for x in xs[:length]:
            h = np.tanh(x @ cell["kernel"] + h @ cell["recurrent_kernel"] + cell["bias"])
        outputs.append(h @ own["params/Dense_0/kernel"] + own["params/Dense_0/bias"])
    return np.array(outputs)


@pytest.mark.laws
def test_what_is_said_of_a_run_is_what_its_weights_give(tmp_path):
    """The test of a run, `predict`, `evaluate` and a hand computation from the file, lengths included."""
    out = tmp_path / "run"
    whole = given.arrays(INPUTS, FIRST, LENGTHS)
    parts = data.split(whole, 0.2, 0.3, 4)
    model = fit(parts, cell="Elman", out=out, seed=3, **QUICK)
    (path,) = (out / "weights").iterdir()
    test = parts.test
    logits = by_hand(path, test.inputs, test.lengths)
    np.testing.assert_allclose(
        experiments.predict(model, test.inputs, test.lengths), logits, rtol=1e-4, atol=1e-5
    )
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = {
        "accuracy": np.mean(logits.argmax(1) == test.targets),
        "loss": -logs[np.arange(len(logs)), test.targets].mean(),
    }
    assert model.test == pytest.approx(expected, rel=1e-5)
    assert evaluate(model, test) == pytest.approx(model.test, rel=1e-6)
    assert evaluate(model, test.inputs, test.targets, test.lengths) == pytest.approx(model.test, rel=1e-6)
    assert evaluate(model, parts.validation) == pytest.approx(model.validation, rel=1e-6)
    lines = read(out)
    assert lines[-1]["test"] == pytest.approx(model.test)
    assert lines[-1]["seed"] == 3
    blocks = lines[:-1]
    assert [line["epochs"] for line in blocks] == pytest.approx([32 / 30, 64 / 30, 96 / 30])
    for part in ("validation", "training"):
        assert list(model.history[f"{part}/accuracy"]) == [line[part]["accuracy"] for line in blocks]
    best = max(blocks, key=lambda line: (line["validation"]["accuracy"], -line["update"]))
    assert (lines[-1]["best"], lines[-1]["validation"]) == (best["update"], best["validation"])
    again = load(out)
    assert again.about == model.about
    for one, other in zip(jax.tree.leaves(again.params), jax.tree.leaves(model.params), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(
        experiments.predict(again, INPUTS[:3], LENGTHS[:3]),
        experiments.predict(model, INPUTS[:3], LENGTHS[:3]),
    )


def test_the_scores_of_training_data_are_those_of_training_data(tmp_path):
    """As many of them as validation has, evenly spread, at the last weights."""
    parts = data.split(given.arrays(INPUTS, FIRST), 0.2, 0.0, 0)
    model = fit(parts, cell="Elman", out=tmp_path / "run", **QUICK | {"epochs": 1})
    few = jax.tree.map(lambda a: a[np.arange(12) * 48 // 12], parts.train)
    assert model.about["best"] == 6
    assert evaluate(model, few)["loss"] == pytest.approx(model.history["training/loss"][-1], rel=1e-5)


@pytest.mark.laws
def test_every_shape_of_data():
    ticks = (INPUTS.cumsum(1)[..., 0] > 0).astype(int)
    for targets, shape, metrics in [
        (ticks, (60, 5, 2), {"accuracy", "loss"}),
        (INPUTS.sum((1, 2)), (60, 1), {"rmse", "mae", "loss"}),
    ]:
        model = fit(INPUTS, targets, LENGTHS, cell="Elman", **QUICK | {"epochs": 1})
        assert set(model.validation) == metrics
        assert model.test == {}
        assert experiments.predict(model, INPUTS, LENGTHS).shape == shape
        assert evaluate(model, INPUTS, targets, LENGTHS).keys() == metrics


@pytest.mark.laws
def test_lists_of_tokens():
    words = [RNG.integers(0, 9, n) for n in (3, 1, 4, 1, 5, 9, 2, 6)]
    model = fit(words, [int(word[0] > 4) for word in words], validation=None, embedding=3, **QUICK)
    assert model.validation == {}
    assert model.about["best"] == 3  # nothing decides: the last ones
    assert experiments.predict(model, words[:3]).shape == (3, 2)


def test_it_learns_what_can_be_learned():
    model = fit(
        INPUTS,
        FIRST,
        cell="GRU",
        epochs=60,
        features=16,
        test=0.2,
        verbose=False,
        optimizer=Optimizer(learning_rate=1e-2),
    )
    assert model.validation["accuracy"] > 0.9
    assert model.history["training/accuracy"][-1] == 1.0
    assert model.task.baseline < 0.8


class Mine(nn.Module):
    """Batch-major, with dropout, and no cell."""

    width: int

    @nn.compact
    def __call__(self, inputs, *, lengths=None, deterministic=False):
        exists = jnp.arange(inputs.shape[1]) < lengths[:, None]
        held = nn.relu(nn.Dense(self.width)(inputs)) * exists[..., None]
        return nn.Dense(2)(nn.Dropout(0.2, deterministic=deterministic)(held.sum(1)))


def test_a_model_of_the_user(tmp_path):
    model = fit(INPUTS, FIRST, LENGTHS, model=Mine(5), out=tmp_path / "run", test=0.2, **QUICK)
    own = safetensors.numpy.load_file(tmp_path / "run/weights/Mine-0.safetensors")
    hidden = np.maximum(INPUTS @ own["params/Dense_0/kernel"] + own["params/Dense_0/bias"], 0)
    hidden *= (np.arange(5) < LENGTHS[:, None])[..., None]
    expected = hidden.sum(1) @ own["params/Dense_1/kernel"] + own["params/Dense_1/bias"]
    np.testing.assert_allclose(experiments.predict(model, INPUTS, LENGTHS), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"model: expected the Mine that was fitted, got none"):
        load(tmp_path / "run")
    again = load(tmp_path / "run", model=Mine(5))
    np.testing.assert_array_equal(
        experiments.predict(again, INPUTS, LENGTHS), experiments.predict(model, INPUTS, LENGTHS)
    )


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Absolute(Finite):
    """Mean absolute error of the sum of a sequence; and whether it is close, once for each sequence."""

    score: str = "close"
    higher_is_better: bool = True

    def loss(self, outputs, batch):
        return mean_of(jnp.abs(outputs - batch.targets)[..., 0], batch.mask).value

    def metrics(self, outputs, batch):
        errors = jnp.abs(outputs - batch.targets)[..., 0]
        return {
            "close": mean_of((errors < 1).astype(errors.dtype), batch.mask),
            "mae": mean_of(errors, batch.mask),
        }


@pytest.mark.laws
def test_a_task_of_the_user(tmp_path):
    parts = data.split(given.arrays(INPUTS, INPUTS.sum((1, 2))), 0.2, 0.2)
    task = Absolute(parts=parts, input_size=2, output_size=1, length=5, extras={"unit": "m"})
    model = fit(None, task=task, cell="GRU", out=tmp_path / "run", **QUICK)
    errors = np.abs(experiments.predict(model, parts.test) - parts.test.targets)
    assert model.test == pytest.approx({"close": np.mean(errors < 1), "mae": errors.mean()}, rel=1e-5)
    again = load(tmp_path / "run", task=task)
    assert again.extras == {"unit": "m"}


@pytest.mark.laws
def test_streams_are_learned_with_the_state_handed_on(tmp_path):
    """A period longer than a segment is predicted only by what the state brings along."""
    tokens = np.tile([0, 1, 2, 1, 0, 2, 2, 0, 0, 1], 90)
    parts = Parts(*(data.streams(own, 4) for own in np.split(tokens, [600, 750])))
    shape = {"input_size": 3, "output_size": 3, "tokens": 3, "length": 3, "stream": True, "language": True}
    task = Classification(parts=parts, **shape, score="perplexity", higher_is_better=False)
    options = {"cell": "GRU", "features": 16, "optimizer": Optimizer(learning_rate=2e-2), "verbose": False}
    model = fit(None, task=task, epochs=3, out=tmp_path / "run", **options)
    assert model.validation["perplexity"] < 1.3
    assert evaluate(model, parts.test) == pytest.approx(model.test, rel=1e-6)
    whole = data.streams(tokens[750:], 1)
    outputs = experiments.predict(model, whole)
    logs = np.asarray(jax.nn.log_softmax(outputs))[0]
    nats = -logs[np.arange(len(logs)), whole.targets[0]].mean()
    assert np.exp(nats) == pytest.approx(evaluate(model, whole)["perplexity"], rel=1e-5)
    assert read(tmp_path / "run")[-1]["epochs"] == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cell": "LTSM"}, r"cells: expected names of rnncells.CELLS, got \['LTSM'\]"),
        ({"features": 0}, "features: expected a positive int, got 0"),
        ({"epochs": 0}, "updates: expected at least 1, got 0"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"embedding": 3}, "embedding: expected none for inputs that are no tokens"),
        ({"pooling": "every"}, "pooling: expected outputs for every sequence"),
        (
            {"validation": (INPUTS[..., :1], FIRST)},
            r"validation: expected inputs as those of training.*\[60, 5, 1\]",
        ),
        ({"validation": (INPUTS, INPUTS[:, 0])}, "validation: expected targets as those of training"),
        ({"validation": 0.999}, "validation, test: expected to leave some of 60 sequences"),
    ],
)
def test_what_cannot_be_fitted(change, words):
    with pytest.raises(ValueError, match=words):
        fit(INPUTS, FIRST, **{**QUICK, **change})


def test_what_cannot_be_judged(tmp_path):
    """Targets that are not those of the model get a sentence, not a score."""
    numbers = fit(INPUTS, INPUTS[:, 0], cell="Elman", out=tmp_path / "numbers", **QUICK)
    with pytest.raises(ValueError, match="targets: expected as many numbers as the 2 of an output, got 1"):
        evaluate(numbers, INPUTS, INPUTS[:, 0, :1])
    classes = fit(INPUTS, FIRST, cell="Elman", out=tmp_path / "classes", **QUICK)
    with pytest.raises(ValueError, match="targets: expected classes from 0 to 1, got 5 to 6"):
        evaluate(classes, INPUTS, FIRST + 5)
    with pytest.raises(TypeError, match="targets: expected classes from 0 to 1, got float"):
        evaluate(classes, INPUTS, FIRST.astype(np.float32))
