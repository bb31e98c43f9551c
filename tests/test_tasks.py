"""Laws of every task: what a batch is, which outputs count, and what the scores of perfect and of memoryless
outputs are."""

import dataclasses
import functools
import inspect
import pickle

import jax
import numpy as np
import pytest

from rnncells import tasks
from rnncells.tasks import (
    MQAR,
    TASKS,
    Adding,
    Copy,
    DampedOscillators,
    DelayedRecall,
    Denoise,
    EvenPairs,
    MackeyGlass,
    ModularArithmetic,
    Parity,
    SequentialDigits,
)
from rnncells.tasks.base import Mean
from tests.frequencies import N, drawn

GROUPS = 16

CASES = {
    **{name: kind() for name, kind in TASKS.items()},
    "adding, anywhere": Adding(11, "anywhere"),
    "adding, original": Adding(100, "original"),
    "copy, janet": Copy(6, "janet"),
    "copy, exprnn": Copy(6, "exprnn"),
    "copy, variable": Copy(6, "variable"),
    "denoise, selective": Denoise(7, "selective"),
    "delayed recall, one tick": DelayedRecall(1, symbols=5, answers=7),
    "parity, one length": Parity(6, shortest=6),
    "modular arithmetic, short": ModularArithmetic(9, shortest=2),
}


def part(tree, group):
    """One of the groups of a batch."""
    size = N // GROUPS
    return jax.tree.map(lambda array: array[:, group * size : (group + 1) * size], tree)


@functools.cache
def scores(task):
    """Metrics of a group as numbers, and loss with its slope."""

    def found(outputs, batch):
        means = task.metrics(outputs, batch).items()
        metrics = {name: mean.value if isinstance(mean, Mean) else mean for name, mean in means}
        return metrics, *jax.value_and_grad(task.loss)(outputs * 1e-4, batch)

    return jax.jit(found)


def sure(classes, count):
    """Logits of certainty."""
    return np.where(np.asarray(classes)[..., None] == np.arange(count), 0, -1e4).astype(np.float32)


def perfect(task, batch):
    return sure(batch.targets, task.output_size) if batch.targets.ndim == 2 else batch.targets


def constant(task, batch):
    """The mean that targets have by their definition."""
    return np.full_like(batch.targets, 0.5 if task.variant == "original" else 1.0)


def uniform(task, batch):
    """Blanks where blanks are right, then all symbols alike."""
    guess = np.where(np.arange(task.output_size) == 0, -1e4, 0)
    return np.where(batch.targets[..., None] > 0, guess, sure(0, task.output_size)).astype(np.float32)


def always(task, batch, answer):
    return sure(np.full(batch.targets.shape, answer), task.output_size)


def seen(task, batch):
    """The last letter itself: right for words of one letter, and a guess otherwise."""
    return sure(np.argmax(batch.inputs[..., : task.output_size], -1), task.output_size)


def by_pixel(task, batch):
    """The digit that goes with the last pixel most often, among all images."""
    pixels = np.concatenate([part.inputs[:, -1, 0] for part in task.parts])
    digits = np.concatenate([part.targets[:, -1] for part in task.parts])
    best = {value: np.bincount(digits[pixels == value]).argmax() for value in set(pixels)}
    return sure(np.vectorize(lambda value: best.get(value, 0))(batch.inputs[..., 0]), 10)


def by_line(task, batch):
    """The line through the last value that is best on another batch."""
    other = drawn(task, 1)
    slope, offset = np.polyfit(other.inputs[other.mask][:, 0], other.targets[other.mask][:, 0], 1)
    return (slope * batch.inputs + offset).astype(np.float32)


MEMORYLESS = {
    Adding: constant,
    Copy: uniform,
    Denoise: uniform,
    DelayedRecall: functools.partial(always, answer=0),
    MQAR: lambda task, batch: always(task, batch, task.vocabulary - 1),
    Parity: seen,
    EvenPairs: functools.partial(always, answer=0),
    ModularArithmetic: seen,
    SequentialDigits: by_pixel,
    MackeyGlass: by_line,
    DampedOscillators: by_line,
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def task(request):
    return request.param


def test_every_task_is_registered_and_has_a_memoryless_score():
    kinds = {kind for _, kind in inspect.getmembers(tasks, inspect.isclass)} - {tasks.Batch, tasks.Task}
    assert set(TASKS.values()) == kinds == set(MEMORYLESS)


def test_a_batch(task):
    batch = drawn(task)
    ticks = batch.mask.shape[0]
    assert batch.mask.shape == (ticks, N)
    tokens = getattr(task, "tokens", None)
    assert batch.inputs.shape == ((ticks, N) if tokens else (ticks, N, task.input_size))
    shape = (ticks, N) if batch.targets.dtype == np.int32 else (ticks, N, task.output_size)
    assert batch.targets.shape == shape
    assert (batch.inputs.dtype, batch.mask.dtype) == (np.int32 if tokens else np.float32, bool)
    assert batch.targets.dtype in (np.int32, np.float32)
    assert np.isfinite(batch.inputs).all()
    assert batch.mask.any(0).all()
    if batch.targets.dtype == np.int32:
        assert batch.targets.min() >= 0
        assert batch.targets.max() < task.output_size
        one_hot = not tokens and not isinstance(task, SequentialDigits)
        assert not one_hot or set(batch.inputs.sum(-1).ravel()) <= {0, 1}
    assert not np.array_equal(batch.inputs, drawn(task, 1).inputs)


@pytest.mark.laws
def test_scores(task):
    """Only ticks that count are read; perfect outputs are a solution, memoryless ones are not, and the
    baseline is their score, within five standard errors that come from groups of sequences."""
    batch = drawn(task)
    first, outputs = part(batch, 0), part(perfect(task, batch), 0)
    best, loss, slope = scores(task)(outputs, first)
    assert loss.shape == ()
    assert best[task.score] == pytest.approx(1.0 if task.higher_is_better else 0.0, abs=1e-6)
    assert task.solved(best)
    assert jax.eval_shape(task.solved, best).shape == ()

    spoiled = np.where(first.mask[..., None], outputs, 7 - outputs)
    same, same_loss, slope = scores(task)(spoiled, first)
    assert (same, same_loss) == (best, loss)
    assert np.isfinite(slope).all()
    assert not slope[~first.mask].any()
    assert np.abs(slope)[first.mask].max() > 0

    naive = MEMORYLESS[type(task)](task, batch)
    found = [scores(task)(part(naive, group), part(batch, group))[0] for group in range(GROUPS)]
    means = {name: np.mean([each[name] for each in found], dtype=np.float64) for name in best}
    error = np.std([each[task.score] for each in found], ddof=1, dtype=np.float64) / np.sqrt(GROUPS)
    assert means[task.score] == pytest.approx(task.baseline, abs=5 * error + 1e-5, rel=0)
    assert not task.solved(means)
    assert (best[task.score] > task.baseline) == task.higher_is_better


@pytest.mark.parametrize("name", TASKS)
def test_the_same_task_at_another_length(name):
    task = CASES[name]
    assert dataclasses.replace(task, length=task.length) == task
    assert hash(dataclasses.replace(task)) == hash(task)
    for copied in (pickle.loads(pickle.dumps(task)), jax.tree.map(lambda leaf: leaf, task)):
        assert copied == task
        assert (copied.input_size, copied.output_size) == (task.input_size, task.output_size)
    longer = dataclasses.replace(
        task, length=64 if isinstance(task, SequentialDigits) else 2 * task.length + 20
    )
    ticks = jax.eval_shape(lambda key: longer.sample(key, 2), jax.random.key(0)).mask.shape[0]
    assert ticks >= drawn(task).mask.shape[0]
    assert (longer.input_size, longer.output_size) == (task.input_size, task.output_size)


BAD = {
    "copy length": (lambda: Copy(0), ValueError, "Copy.length: expected a positive int, got 0"),
    "copy variant": (lambda: Copy(9, "tcn"), ValueError, "Copy.variant: expected 'arjovsky', .* got 'tcn'"),
    "denoise variant": (lambda: Denoise(9, "mamba"), ValueError, "Denoise.variant: .* got 'mamba'"),
    "denoise length": (lambda: Denoise(9.0), TypeError, "Denoise.length: expected a positive int"),
    "one symbol": (lambda: DelayedRecall(3, symbols=1), ValueError, "symbols: expected at least 2, got 1"),
    "no answers": (lambda: DelayedRecall(3, answers=0), ValueError, "DelayedRecall.answers: .* got 0"),
    "mqar odd": (lambda: MQAR(63), ValueError, "MQAR.length: expected an even number .* got 63"),
    "mqar short": (lambda: MQAR(64, pairs=17), ValueError, "MQAR.length: .* 4 x 17 pairs, got 64"),
    "mqar few": (lambda: MQAR(64, 8, 17), ValueError, "MQAR.vocabulary: expected at least 18 .* got 17"),
    "parity": (lambda: Parity(5, shortest=6), ValueError, "Parity.shortest: .* the length, 5, got 6"),
    "even pairs": (lambda: EvenPairs(5, shortest=0), ValueError, "EvenPairs.shortest: .* got 0"),
    "arithmetic": (lambda: ModularArithmetic("5"), TypeError, "ModularArithmetic.length: .* got '5'"),
    "digits length": (lambda: SequentialDigits(65), ValueError, "at most 64 pixels, got 65"),
    "digits variant": (
        lambda: SequentialDigits(64, "rows"),
        ValueError,
        "SequentialDigits.variant: .* 'rows'",
    ),
    "horizon": (lambda: MackeyGlass(99, horizon=0), ValueError, "MackeyGlass.horizon: .* got 0"),
    "tau": (lambda: MackeyGlass(99, tau=1.5), TypeError, "MackeyGlass.tau: expected a positive int"),
    "series": (lambda: MackeyGlass(17), ValueError, "MackeyGlass.length: expected more than tau, 17, got 17"),
    "oscillators": (lambda: DampedOscillators(3), ValueError, "DampedOscillators.length: .* 4, got 3"),
}


@pytest.mark.parametrize(("make", "kind", "words"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(make, kind, words):
    with pytest.raises(kind, match=words):
        make()
