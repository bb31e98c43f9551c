"""Finite data: every sequence once an epoch, parts that do not overlap, streams without a gap, and scores
that do not depend on how a part is cut."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.harness import data, evaluation, given
from experiments.harness.data import Arrays, Parts
from experiments.harness.encoding import Scaler, Vocabulary
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.learner import Learner
from experiments.harness.model import Net
from experiments.harness.options import Training
from experiments.harness.supervised import Classification, Regression
from rnncells.tasks import Batch
from rnncells.tasks.base import Mean, mean_of
from tests.cases import sparing

pytestmark = pytest.mark.usefixtures("standard_promotion")


def numbered(count, ticks=3):
    """Sequences that tell their own number."""
    inputs = np.arange(count, dtype=np.float32)[:, None, None] + np.zeros((1, ticks, 1), np.float32)
    return given.arrays(inputs, np.arange(count) % 2)


@pytest.mark.parametrize(
    ("size", "batch", "updates"), [(10, 3, 40), (7, 7, 5), (5, 12, 9), (100, 8, 30), (1, 2, 4)]
)
def test_every_sequence_comes_once_an_epoch(size, batch, updates):
    """However many updates are drawn at a time, and from whichever update on."""
    key = jax.random.key(3)
    whole = np.asarray(data.order(key, size, jnp.int32(0), updates * batch))
    for epoch in range(len(whole) // size):
        assert sorted(whole[epoch * size : (epoch + 1) * size]) == list(range(size))
    if size > 6:
        assert (whole[:size] != whole[size : 2 * size]).any()
        assert (whole != np.asarray(data.order(jax.random.key(4), size, jnp.int32(0), len(whole)))).any()
    drawn = jax.jit(lambda start: data.order(key, size, start, batch))
    for update in range(updates):
        np.testing.assert_array_equal(
            drawn(jnp.int32(update * batch)), whole[update * batch : (update + 1) * batch]
        )


@pytest.mark.parametrize("seed", [0, 1, None])
def test_parts_share_nothing_and_lose_nothing(seed):
    parts = data.split(numbered(50), 0.2, 0.1, seed)
    held = [part.inputs[:, 0, 0].astype(int).tolist() for part in parts]
    assert [len(each) for each in held] == [35, 10, 5]
    everything = [number for each in held for number in each]
    assert sorted(everything) == list(range(50))
    assert (everything == list(range(50))) == (seed is None)
    for part, own in zip(parts, held, strict=True):
        np.testing.assert_array_equal(part.targets, np.array(own) % 2)


def test_a_part_that_is_not_wanted_is_none():
    parts = data.split(numbered(5), 0.2, 0.0)
    assert (data.count(parts.train), data.count(parts.validation), parts.test) == (4, 1, None)
    for fractions, words in [
        ((0.01, 0.1), "validation: expected a fraction that holds some of 5 sequences, got 0.01"),
        ((0.5, 1.5), "test: expected a fraction that holds some of 5 sequences, got 1.5"),
        ((0.6, 0.6), "expected to leave some of 5 sequences, got 6"),
    ]:
        with pytest.raises(ValueError, match=words):
            data.split(numbered(5), *fractions)


@pytest.mark.parametrize(("length", "number", "segment"), [(20, 3, 4), (13, 1, 5), (9, 4, 7), (3, 2, 1)])
def test_streams_hold_every_token_and_segments_read_them_in_order(length, number, segment):
    tokens = np.arange(100, 100 + length)
    part = data.streams(tokens, number)
    assert part.inputs.shape == part.targets.shape == (number, -(-(length - 1) // number))
    np.testing.assert_array_equal(part.inputs[part.mask], tokens[:-1])
    np.testing.assert_array_equal(part.targets[part.mask], tokens[1:])
    read = []
    for index in range(data.segments(part, segment)):
        batch, resets = data.segment(part, jnp.int32(index), segment)
        assert batch.inputs.shape == batch.mask.shape == resets.shape == (segment, number)
        assert resets[0].all() == (index == 0)
        assert not resets[1:].any()
        read.append(np.where(batch.mask, batch.inputs, -1).T)
    whole = np.concatenate(read, 1)
    np.testing.assert_array_equal(whole[whole >= 0], tokens[:-1])
    with pytest.raises(ValueError, match="tokens: expected more ints than the 3 streams"):
        data.streams([1, 2, 3], 3)


def test_sequences_are_seen_time_major():
    part = given.arrays(np.ones((4, 3, 2)), np.zeros((4, 3), int), [3, 1, 0, 2])
    batch = data.taken(part, jnp.array([0, 3, 4]))
    assert [leaf.shape for leaf in batch] == [(3, 3, 2), (3, 3), (3, 3), (3,)]
    np.testing.assert_array_equal(batch.mask.T, [[1, 1, 1], [1, 1, 0], [0, 0, 0]])  # the last is past the end
    whole = data.taken(given.arrays(np.ones((4, 3, 2)), np.zeros(4, int)), jnp.array([1, 4]))
    assert [leaf.shape for leaf in whole[:3]] == [(3, 2, 2), (2,), (2,)]
    assert whole.mask.tolist() == [True, False]


def test_lists_are_padded():
    xs, ys = [[[1.0]], [[2.0], [3.0], [4.0]]], [[1], [0, 1, 1]]
    part = given.arrays(xs, ys)
    np.testing.assert_array_equal(part.inputs[..., 0], [[1, 0, 0], [2, 3, 4]])
    np.testing.assert_array_equal(part.targets, [[1, 0, 0], [0, 1, 1]])
    assert part.lengths.tolist() == [1, 3]
    np.testing.assert_array_equal(part.mask, [[1, 0, 0], [1, 1, 1]])
    tokens = given.arrays([np.array([5, 6]), np.array([7])], [0.5, 1.0])
    assert (tokens.inputs.tolist(), tokens.targets.tolist()) == ([[5, 6], [7, 0]], [[0.5], [1.0]])
    assert (tokens.inputs.dtype, tokens.targets.dtype) == (np.int32, np.float32)


def test_what_does_not_exist_is_not_read():
    xs = np.ones((2, 3, 1))
    xs[1, 2] = np.nan
    assert np.isfinite(given.arrays(xs, [0, 1], [3, 2]).inputs).all()
    ys = np.array([[1, 1, 1], [1, 1, -9]])
    assert given.arrays(np.ones((2, 3, 1)), ys, [3, 2]).targets.min() == 0


NAN = np.array([[[1.0], [np.nan]]])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.ones((3, 4)), [0, 1, 0]), r"inputs: expected floats \[N, T, I\] or tokens.*got float32\[3, 4\]"),
        ((np.ones((3, 4, 1), int), [0, 1, 0]), r"inputs: .*got int32\[3, 4, 1\]"),
        ((np.ones((0, 4, 1)), []), r"inputs: .*got float32\[0, 4, 1\]"),
        ((["abc", "de"], [0, 1]), r"inputs: expected floats, or ints for tokens and classes, got <U3\[2\]"),
        (
            ([np.ones((2, 1)), np.ones((3, 2))], [0, 1]),
            r"inputs: expected arrays that differ in length only, got",
        ),
        (
            (np.ones((3, 4, 1)), [0, 1]),
            r"targets: expected ints \[N\].*for 3 sequences of 4 ticks, got int32\[2\]",
        ),
        ((np.ones((3, 4, 1)), np.zeros((3, 5), int)), r"targets: .*got int32\[3, 5\]"),
        ((np.ones((3, 4, 1)), np.zeros((3, 4, 1, 1))), r"targets: .*got float32\[3, 4, 1, 1\]"),
        ((np.ones((3, 4, 1)), ["a", "b", "c"]), "targets: expected floats, or ints for tokens and classes"),
        ((np.ones((3, 4, 1)), [0, -1, 0]), "targets: expected ints from 0, got -1 in sequence 1"),
        ((np.array([[1, -2]]), [0]), "inputs: expected ints from 0, got -2 in sequence 0 and tick 1"),
        ((NAN, [0]), "inputs: expected finite numbers, got nan in sequence 0 and tick 1"),
        ((np.ones((1, 2, 1)), [np.inf]), "targets: expected finite numbers, got inf in sequence 0"),
        ((np.ones((3, 4, 1)), [0, 1, 0], [4, 4]), r"lengths: expected 3 ints within 0 and 4, got int64\[2\]"),
        ((np.ones((3, 4, 1)), [0, 1, 0], [4, 5, 1]), "lengths: .* from 1 to 5"),
        ((np.ones((3, 4, 1)), [0, 1, 0], [4.0, 3.0, 1.0]), r"lengths: .*got float64\[3\]"),
        (([np.ones((2, 1)), np.ones((3, 1))], [0, 1], [2, 3]), "lengths: expected none beside a list"),
    ],
)
def test_what_data_cannot_be(arguments, words):
    with pytest.raises(ValueError, match=words):
        given.arrays(*arguments)


def learner(task, at_once, cells=3):
    """One layer on a task, and its parameters."""
    from experiments.harness.fitting import Own

    config = Own(cells=("GRU",), features=cells, given=task, pooling="last" if not task.stream else "every")
    net = Net(config.model(task)(config.numbers("GRU").cell, task.output_size))
    own = Learner(net, task, Optimizer(), Training(evaluate_at_once=at_once))
    like = data.time_major(jax.tree.map(lambda a: a[:1], task.data.train))
    return own, net.init(jax.random.key(0), like)


@pytest.mark.parametrize("kind", sparing(["classes", "numbers"]))
def test_scores_of_a_part_are_those_of_all_its_sequences_at_once(kind):
    """Root and mean, in chunks of any size, lengths and the last chunk's padding included."""
    rng = np.random.default_rng(0)
    inputs, lengths = rng.normal(size=(23, 6, 2)), rng.integers(1, 7, 23)
    if kind == "classes":
        task = Classification.of(Parts(given.arrays(inputs, rng.integers(0, 3, 23), lengths)), language=True)
    else:
        task = Regression.of(Parts(given.arrays(inputs, rng.normal(size=(23, 2)), lengths)), scale=(3.0, 0.5))
    part = task.data.train
    whole, params = learner(task, 23)
    _, outputs = whole.net(params, data.time_major(part))
    outputs = np.asarray(outputs, np.float64)
    if kind == "classes":
        logs = outputs - np.log(np.exp(outputs).sum(-1, keepdims=True))
        loss = -logs[np.arange(23), part.targets].mean()
        right = (outputs.argmax(-1) == part.targets).mean()
        expected = {"loss": loss, "accuracy": right, "perplexity": np.exp(loss), "bits": loss / np.log(2)}
    else:
        errors = outputs - part.targets
        scaled = errors * (3.0, 0.5)
        expected = {
            "rmse": np.sqrt((scaled**2).mean()),
            "mae": np.abs(scaled).mean(),
            "loss": (errors**2).mean(),
        }
    for at_once in (23, 5, 1, 100):
        own = dataclasses.replace(whole, training=Training(evaluate_at_once=at_once))
        scores = evaluation.whole(own, params, part)
        assert scores == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}
    few = jax.tree.map(lambda a: a[[0, 4, 9, 13, 18]], part)
    some = evaluation.whole(whole, params, part, jax.tree.map(lambda a: a[:5], part))
    assert some == {
        name: pytest.approx(float(v), rel=1e-5) for name, v in evaluation.whole(whole, params, few).items()
    }


def test_scores_of_streams_are_those_of_the_whole_text():
    """The state is carried from segment to segment; the last segment is shorter."""
    tokens = np.random.default_rng(1).integers(0, 4, 60)
    part = data.streams(tokens, 3)
    shape = {"input_size": 4, "output_size": 4, "tokens": 4, "stream": True, "language": True}
    scores = []
    for length in (20, 7, 1):
        task = Classification(parts=Parts(part), length=length, **shape)
        own, params = learner(task, 1)
        scores.append({name: float(value) for name, value in evaluation.whole(own, params, part).items()})
    assert scores[1] == pytest.approx(scores[0], rel=1e-5)
    assert scores[2] == pytest.approx(scores[0], rel=1e-5)
    batch = data.time_major(part)
    _, outputs = own.net(params, batch)
    logs = jax.nn.log_softmax(outputs)
    nats = -np.take_along_axis(np.asarray(logs), np.asarray(batch.targets)[..., None], -1)[..., 0]
    assert scores[0]["loss"] == pytest.approx(nats[np.asarray(batch.mask)].mean(), rel=1e-5)
    assert np.asarray(batch.mask).sum() == 59


def test_naive_scores():
    targets = np.array([0, 0, 0, 1, 1, 2])
    parts = Parts(given.arrays(np.ones((6, 2, 1)), targets), None, given.arrays(np.ones((2, 2, 1)), [0, 1]))
    task = Classification.of(parts)
    assert (task.baseline, task.naive, task.output_size) == (0.5, "majority class", 3)
    nats = -np.log([4 / 9, 3 / 9]).mean()
    assert Classification.of(parts, score="loss", higher_is_better=False).baseline == pytest.approx(nats)
    language = Classification.of(parts, language=True)
    assert (language.score, language.higher_is_better) == ("perplexity", False)
    assert language.baseline == pytest.approx(np.exp(nats))
    train, test = given.arrays(np.ones((2, 2, 1)), [1.0, 3.0]), given.arrays(np.ones((2, 2, 1)), [2.0, 5.0])
    assert Regression.of(Parts(train, None, test), scale=(2.0,)).baseline == pytest.approx(
        np.sqrt((0 + 36) / 2)
    )
    assert not task.solved({"accuracy": 1.0})
    assert dataclasses.replace(task, enough=0.9).solved({"accuracy": 0.95})
    assert not dataclasses.replace(language, enough=2.0).solved({"perplexity": 2.5})


def test_outputs_must_fit_the_targets():
    batch = Batch(jnp.ones((3, 2, 1)), jnp.zeros(2, int), jnp.ones(2, bool))
    task = Classification.of(Parts(given.arrays(np.ones((2, 3, 1)), [0, 1])))
    with pytest.raises(
        ValueError, match=r"pooling: expected outputs for every sequence.*got outputs for \[3, 2\]"
    ):
        task.loss(jnp.zeros((3, 2, 2)), batch)


def test_a_mean_of_nothing_is_zero():
    assert Mean(jnp.float32(0), jnp.float32(0)).value == 0
    nothing = mean_of(jnp.array([jnp.nan, 2.0]), jnp.array([False, True]), jnp.sqrt)
    assert nothing.value == pytest.approx(2**0.5)


def test_scaler():
    values = np.random.default_rng(0).normal(3, 5, (4, 6, 2))
    values[..., 1] = 7.0
    scaler = Scaler.fitted(values)
    scaled = scaler.apply(values)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean((0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std((0, 1)), [1, 0], atol=1e-6)
    np.testing.assert_allclose(scaler.invert(scaled), values, rtol=1e-5)
    assert Scaler.restored(scaler.plain()) == scaler


def test_vocabulary():
    words = Vocabulary.of(["to", "be", "or", "not", "to", "be"], size=3)
    assert words.symbols == ("be", "to", "not")
    assert len(words) == 5
    assert words.encode(["to", "be", "or"]).tolist() == [3, 2, 1]
    assert words.decode([3, 0, 2, 1], "?") == ["to", "be", "?"]
    assert Vocabulary.of("abcab", least=2).symbols == ("a", "b")
    assert Vocabulary.restored(words.plain()) == words


def test_arrays_of_a_user_are_a_pytree():
    part = Arrays({"a": np.ones((3, 2)), "b": np.ones(3)}, np.zeros(3, int), np.ones(3, bool))
    batch = data.taken(part, jnp.array([2, 0]))
    assert (batch.inputs["a"].shape, batch.inputs["b"].shape) == ((2, 2), (2,))
