"""The default model equals what its options say; modules of users get what they ask for."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro

import rnncells
from experiments import adding
from experiments.harness import given
from experiments.harness.data import Parts, time_major
from experiments.harness.fitting import Own
from experiments.harness.model import Model, Net, widths
from experiments.harness.options import Training
from experiments.harness.supervised import Classification
from experiments.harness.train import make_train
from rnncells.tasks import Adding, Batch
from tests.cases import sparing
from tests.echo import small

pytestmark = pytest.mark.usefixtures("standard_promotion")

LENGTHS = np.array([5, 2, 0, 3])
RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(4, 5, 2))


def built(pooling, inputs, lengths=None, **options):
    """A model with weights, its batch and its outputs."""
    task = Classification.of(Parts(given.arrays(inputs, RNG.integers(0, 3, 4), lengths)), output_size=3)
    config = Own(cells=("GRU",), given=task, pooling=pooling, **{"features": 6, **options})
    net = Net(config.model(task)(config.numbers("GRU").cell, 3))
    batch = time_major(task.data.train)
    params = net.init(jax.random.key(0), batch)
    params = jax.tree.map(lambda leaf: leaf + 0.3, params)
    return config, params, batch, net(params, batch)[1]


@pytest.mark.parametrize("pooling", sparing(["last", "every", "mean", "attention"]))
def test_pooling_reads_each_sequence_within_its_own_length(pooling):
    config, params, _, outputs = built(pooling, NUMBERS, LENGTHS)
    own, cell = params["params"], config.numbers("GRU").cell
    for i, length in enumerate(LENGTHS):
        _, states = rnncells.unroll(cell, own["RNN_0"]["cell"], jnp.asarray(NUMBERS[i, :length], jnp.float32))
        read = {"last": states[-1:].sum(0), "mean": states.mean(0) if length else jnp.zeros(6)}
        if pooling == "attention":
            attention, held = rnncells.AttentionPooling(6), own["attention"]
            read["attention"] = attention(held, states) if length else jnp.zeros(6)
        wanted = states if pooling == "every" else read[pooling]
        wanted = wanted @ own["Dense_0"]["kernel"] + own["Dense_0"]["bias"]
        found = outputs[:length, i] if pooling == "every" else outputs[i]
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


def test_the_last_state_of_both_directions_is_the_last_that_each_has_read():
    config, params, _, outputs = built("last", NUMBERS, LENGTHS, bidirectional=True, features=(4, 6))
    own, cell = params["params"], config.numbers("GRU").cell
    assert isinstance(cell.cells[1], rnncells.Bidirectional)
    for i, length in enumerate(LENGTHS):
        if length:
            xs = jnp.asarray(NUMBERS[i, :length], jnp.float32)
            carry, _ = rnncells.unroll(cell, own["RNN_0"]["cell"], xs)
            top = carry[1]  # of a GRU the state is the output
            read = jnp.concatenate([top.forward, top.backward])
            wanted = read @ own["Dense_0"]["kernel"] + own["Dense_0"]["bias"]
            np.testing.assert_allclose(outputs[i], wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("embedding", [None, 3])
def test_tokens_are_looked_up(embedding):
    tokens = RNG.integers(0, 5, (4, 5))
    tokens[0, 0] = 4
    config, params, _, outputs = built("every", tokens, embedding=embedding)
    own = params["params"]
    table = np.eye(5, dtype=np.float32) if embedding is None else own["Embed_0"]["embedding"]
    assert table.shape == (5, embedding or 5)
    vectors = jnp.asarray(table)[tokens].swapaxes(0, 1)
    _, states = rnncells.unroll(config.numbers("GRU").cell, own["RNN_0"]["cell"], vectors)
    np.testing.assert_allclose(
        outputs, states @ own["Dense_0"]["kernel"] + own["Dense_0"]["bias"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--features 50", (50,)),
        ("--features 50 40", (50, 40)),
        ("--features 50 --layers 3", (50, 50, 50)),
        ("--features 50 40 --layers 2 --bidirectional", (50, 40)),
    ],
)
def test_widths_from_the_command_line(words, expected):
    config = tyro.cli(adding.Config, args=["--cells", "GRU", *words.split()])
    assert widths(config.features, config.layers) == expected
    cell = config.numbers("GRU").cell
    layers = cell.cells if len(expected) > 1 else (cell,)
    assert [layer.output_size for layer in layers] == [size * (1 + config.bidirectional) for size in expected]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"features": (3, 4), "layers": 3},
            r"features: expected one width, or one for each of 3 layers, got \(3, 4\)",
        ),
        ({"features": ()}, r"features: expected one width, or one for each of 1 layers, got \(\)"),
        ({"embedding": 0}, "embedding: expected at least 1, got 0"),
        ({"pooling": "max"}, "pooling: expected one of every, last, mean, attention, got 'max'"),
        ({"bidirectional": True, "truncate_every": 3}, "bidirectional: expected whole sequences"),
    ],
)
def test_what_a_model_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        small(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"embedding": 3}, "embedding: expected none for inputs that are no tokens, got 3"),
        (
            {"pooling": "mean"},
            "pooling: expected every, because the task wants an output at every tick, got mean",
        ),
    ],
)
def test_what_does_not_fit_the_task(options, words):
    with pytest.raises(ValueError, match=words):
        make_train(small(Adding(5), **options))


class Asks(nn.Module):
    """Batch-major, and curious: outputs tell what it was given."""

    @nn.compact
    def __call__(self, inputs, *, lengths=None, deterministic=False, progress=1.0):
        assert inputs.shape[:2] == (4, 5)
        told = [lengths.astype(jnp.float32), jnp.full(4, float(deterministic)), jnp.full(4, progress)]
        return jnp.stack(told, -1) + 0.0 * nn.Dense(3)(inputs[:, 0])


def test_a_module_gets_what_it_names():
    batch = Batch(
        jnp.asarray(NUMBERS.swapaxes(0, 1)), jnp.zeros(4, int), jnp.ones(4, bool), jnp.asarray(LENGTHS)
    )
    net = Net(Asks())
    params = net.init(jax.random.key(0), batch)
    carry, outputs = net(params, batch, progress=0.25, key=jax.random.key(1))
    assert carry is None
    np.testing.assert_array_equal(outputs, [[length, 0, 0.25] for length in LENGTHS])
    np.testing.assert_array_equal(net(params, batch)[1][:, 1], 1)


class Ticks(nn.Module):
    """An output for every tick."""

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(2)(inputs)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.BatchNorm(use_running_average=True)(inputs)


def test_outputs_of_batch_major_modules_are_turned():
    inputs = jnp.asarray(NUMBERS.swapaxes(0, 1), jnp.float32)
    batch = Batch(inputs, jnp.zeros((5, 4), int), jnp.ones((5, 4), bool))
    net = Net(Ticks())
    params = net.init(jax.random.key(0), batch)
    dense = params["params"]["Dense_0"]
    np.testing.assert_allclose(net(params, batch)[1], inputs @ dense["kernel"] + dense["bias"], rtol=1e-6)
    with pytest.raises(
        ValueError, match="model: expected a module that takes `lengths`, which the data have"
    ):
        net(params, batch._replace(lengths=jnp.asarray(LENGTHS)))
    with pytest.raises(ValueError, match="model: expected a module with parameters only, got batch_stats"):
        Net(Normed()).init(jax.random.key(0), batch)
    task = Classification.of(Parts(given.arrays(NUMBERS, RNG.integers(0, 2, (4, 5)))))
    config = Own(
        cells=("Ticks",), given=task, module=Ticks(), module_name="Ticks", training=Training(truncate_every=2)
    )
    with pytest.raises(
        ValueError, match="truncate_every: expected none, because the model takes no `carry`, got 2"
    ):
        jax.eval_shape(make_train(config).init, jax.random.key(0), config.numbers("Ticks"))


def test_the_model_is_a_factory():
    assert Model(rnncells.GRU(3), 2, remat_every=4).pooling == "every"
