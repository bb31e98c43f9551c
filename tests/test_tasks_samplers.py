"""Samplers draw what their papers describe: symbols, places and lengths by their frequencies, and every
target computed again from the inputs, in plain Python."""

import collections

import numpy as np
import pytest

from rnncells.tasks import (
    MQAR,
    Adding,
    Copy,
    DelayedRecall,
    Denoise,
    EvenPairs,
    ModularArithmetic,
    Parity,
)
from tests.frequencies import N, classes, drawn, evenly, frequent, mean_is


@pytest.mark.parametrize("task", [Adding(), Adding(2), Adding(11, "anywhere")], ids=repr)
def test_adding(task):
    batch, length = drawn(task), task.length
    values, markers = np.moveaxis(batch.inputs, -1, 0)
    assert set(np.unique(markers)) <= {0.0, 1.0}
    assert (markers.sum(0) == 2).all()
    np.testing.assert_allclose((values * markers).sum(0), batch.targets[-1, :, 0], rtol=1e-6)
    assert not batch.targets[:-1].any()
    assert batch.mask[-1].all()
    assert not batch.mask[:-1].any()
    first, second = np.argmax(markers, 0), length - 1 - np.argmax(markers[::-1], 0)
    if task.variant == "halves":
        half = length // 2
        evenly(first, range(half))
        evenly(second, range(half, length))
        mean_is((first - (half - 1) / 2) * (second - (half + length - 1) / 2), 0)
    else:
        evenly(first * length + second, [i * length + j for j in range(length) for i in range(j)])
    mean_is(values, 1 / 2)
    mean_is(values**2, 1 / 3)
    assert 0 <= values.min() < values.max() <= 1


def test_adding_as_in_1997():
    batch = drawn(Adding(100, "original"))
    values, markers = np.moveaxis(batch.inputs, -1, 0)
    assert values.shape[0] == 110
    assert (batch.mask.sum(0) == 1).all()
    last, each = np.argmax(batch.mask, 0), np.arange(N)
    evenly(last, range(99, 110))
    after = np.arange(110)[:, None] > last
    assert not values[after].any()
    assert not markers[after].any()
    marked = markers == 1
    assert (marked.sum(0) == 2).all()
    one, two = np.argmax(marked, 0), 109 - np.argmax(marked[::-1], 0)
    assert one.max() <= 9
    assert two.max() <= 49
    # The second is as likely at each of the 49 places that the first leaves: after tick 9, in 40 of them.
    frequent(two > 9, {True: 40 / 49, False: 9 / 49})
    evenly(two[two > 9], range(10, 50))
    evenly(one[two > 9], range(10))
    assert (markers[last, each] == -1).all()
    assert np.isin(markers[0], (1, -1)).all()
    assert (markers == -1).sum() == N + (markers[0] == -1).sum()
    assert (values[0][markers[0] == 1] == 0).all()
    mean_is(values[1:99], 0)
    mean_is(values[1:99] ** 2, 1 / 3)
    expected = 0.5 + (values * marked).sum(0) / 4
    np.testing.assert_allclose(batch.targets[last, each, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("variant", "length", "ticks", "blanks", "after"),
    [
        ("arjovsky", 1, 21, 0, 10),
        ("arjovsky", 100, 120, 99, 10),
        ("janet", 6, 27, 6, 10),
        ("exprnn", 6, 26, 6, 9),
        ("variable", 6, 27, None, 10),
    ],
)
def test_copy(variant, length, ticks, blanks, after):
    """Ten symbols, blanks, the delimiter, blanks; the ten are asked at the end."""
    batch = drawn(Copy(length, variant))
    shown = classes(batch)
    assert shown.shape == (ticks, N)
    evenly(shown[:10], range(1, 9))
    delimiter = np.argmax(shown == 9, 0)
    assert ((shown == 9).sum(0) == 1).all()
    if blanks is None:
        evenly(delimiter - 10, range(1, length + 1))
    else:
        assert (delimiter == 10 + blanks).all()
    for i in range(0, N, 4):
        end = delimiter[i] + after + 1
        expected = [0] * (end - 10) + shown[:10, i].tolist()
        assert batch.targets[:end, i].tolist() == expected
        assert not batch.targets[end:, i].any()
        assert batch.mask[:, i].tolist() == [True] * end + [False] * (ticks - end)
        assert not shown[10 : delimiter[i], i].any()
        assert not shown[delimiter[i] + 1 :, i].any()


@pytest.mark.parametrize(
    ("task", "asked", "kinds", "noise", "marked"),
    [(Denoise(), 10, 9, 109, 1), (Denoise(7, "selective"), 16, 14, 23, 16)],
    ids=repr,
)
def test_denoise(task, asked, kinds, noise, marked):
    batch, selective = drawn(task), task.variant == "selective"
    shown = classes(batch)
    assert (shown[noise : noise + marked] == kinds + 1).all()
    assert not shown[noise + marked :].any()
    assert shown.shape[0] == noise + (asked if selective else 1 + asked)
    symbols = shown[:noise]
    assert ((symbols > 0).sum(0) == asked).all()
    evenly(symbols[symbols > 0], range(1, kinds + 1))
    for row in symbols > 0:
        frequent(row, {True: asked / noise, False: 1 - asked / noise})
    pairs = (symbols[3] > 0) & (symbols[5] > 0)
    together = asked * (asked - 1) / (noise * (noise - 1))
    frequent(pairs, {True: together, False: 1 - together})
    expected = np.stack([column[column > 0] for column in symbols.T], 1)
    np.testing.assert_array_equal(batch.targets[-asked:], expected)
    assert not batch.targets[:-asked].any()
    assert (batch.mask.sum(0) == 16).all() if selective else batch.mask.all()
    assert batch.mask[-asked:].all()


@pytest.mark.parametrize("task", [DelayedRecall(), DelayedRecall(1, symbols=5, answers=7)], ids=repr)
def test_delayed_recall(task):
    batch, delay = drawn(task), task.length
    shown = classes(batch)
    evenly(shown, range(task.symbols))
    frequent(shown[1:] == shown[:-1], {True: 1 / task.symbols, False: 1 - 1 / task.symbols})
    assert not batch.mask[:delay].any()
    assert batch.mask[delay:].all()
    np.testing.assert_array_equal(batch.targets[delay:], shown[: task.answers])


@pytest.mark.parametrize("task", [MQAR(), MQAR(16, pairs=4, vocabulary=10)], ids=repr)
def test_mqar(task):
    batch, (length, pairs, vocabulary) = drawn(task), (task.length, task.pairs, task.vocabulary)
    shown, half = classes(batch), vocabulary // 2
    keys, values = shown[: 2 * pairs : 2], shown[1 : 2 * pairs : 2]
    evenly(keys, range(1, half))
    evenly(values, range(half, vocabulary))
    for column in (keys, values):
        assert (np.diff(np.sort(column, 0), axis=0) > 0).all()
    assert (batch.mask.sum(0) == pairs).all()
    assert not batch.mask[: 2 * pairs].any()
    assert not batch.mask[1::2].any()
    for i in range(0, N, 4):
        value = dict(zip(keys[:, i].tolist(), values[:, i].tolist(), strict=True))
        asked = {int(shown[t, i]): int(batch.targets[t, i]) for t in np.flatnonzero(batch.mask[:, i])}
        assert asked == value
    evenly(shown[2 * pairs + 1 :: 2], range(vocabulary))
    # The first place is drawn from all: where the first key is asked follows the law itself.
    places = np.arange(2 * pairs, length, 2)
    weights = np.arange(1, len(places) + 1) ** -0.99
    first = np.argmax(batch.mask & (shown == keys[:1]), 0)
    frequent(first, dict(zip(places.tolist(), (weights / weights.sum()).tolist(), strict=True)))


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        (Parity(), lambda word: word.count("1") % 2),
        (Parity(6, shortest=6), lambda word: word.count("1") % 2),
        (EvenPairs(), lambda word: sum(word[i : i + 2] in ("01", "10") for i in range(len(word))) % 2),
        (ModularArithmetic(), lambda word: eval(word) % 5),
        (ModularArithmetic(9, shortest=2), lambda word: eval(word) % 5),
    ],
    ids=lambda value: repr(value) if hasattr(value, "length") else "",
)
def test_regular_languages(task, answer):
    arithmetic = isinstance(task, ModularArithmetic)
    batch = drawn(task)
    shown = classes(batch)
    sizes = (shown >= 0).sum(0)
    drawn_lengths = np.arange(task.shortest, task.length + 1)
    expected = collections.Counter((drawn_lengths - (drawn_lengths % 2 == 0) * arithmetic).tolist())
    frequent(sizes, {size: count / len(drawn_lengths) for size, count in expected.items()})
    for i in range(0, N, 4):
        word = "".join("01234+-*"[letter] for letter in shown[: sizes[i], i])
        assert batch.targets[sizes[i] - 1, i] == answer(word), word
    assert (batch.mask == (np.arange(task.length)[:, None] == sizes - 1)).all()
    assert (shown[np.arange(task.length)[:, None] >= sizes] == -1).all()
    assert not batch.targets[~batch.mask].any()
    if arithmetic:
        evenly(shown[::2][shown[::2] >= 0], range(5))
        evenly(shown[1::2][shown[1::2] >= 0], range(5, 8))
    else:
        evenly(shown[shown >= 0], range(2))
