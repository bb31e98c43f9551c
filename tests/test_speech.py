"""Speech: what is drawn, what it costs to be wrong, and that the script says what its model does."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import load, predict, speech
from experiments.harness import trained
from experiments.harness.options import Training
from experiments.parts import ctc, formants
from experiments.parts.formants import BANDS, CONSONANTS, LOUDNESS, PHONES, VOWELS
from tests.untrained import left

pytestmark = pytest.mark.usefixtures("standard_promotion")

DRAWN = 2000


@pytest.fixture(scope="module")
def utterances():
    draw = jax.vmap(lambda key: formants.utterance(key, 3, 6, -22.0))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return jax.tree.map(np.asarray, jax.jit(draw)(jax.random.split(jax.random.key(1), DRAWN)))


def evenly(counts):
    """Within four deviations of a draw in which all are as likely."""
    total, kinds = counts.sum(), len(counts)
    deviation = np.sqrt(total * (1 / kinds) * (1 - 1 / kinds))
    assert np.all(np.abs(counts - total / kinds) < 4 * deviation), counts


def test_labels_are_even_and_take_turns(utterances):
    labels = utterances.labels
    numbers = (labels > 0).sum(1)
    evenly(np.bincount(numbers)[3:])
    assert all((row[:n] > 0).all() and not row[n:].any() for row, n in zip(labels, numbers, strict=True))
    counts = np.bincount(labels[labels > 0], minlength=len(PHONES))
    evenly(counts[1 : 1 + len(VOWELS)])
    evenly(counts[1 + len(VOWELS) :])
    is_vowel = labels <= len(VOWELS)
    evenly(np.bincount(is_vowel[:, 0]))
    assert np.all((is_vowel[:, 1:] != is_vowel[:, :-1]) | (labels[:, 1:] == 0))


def test_sounds_lie_in_their_order_and_last_as_long_as_they_may(utterances):
    assert utterances.frames.shape == (DRAWN, formants.ticks(6), BANDS)
    assert utterances.length.max() <= formants.ticks(6)
    spans = {phone: [] for phone in range(len(PHONES))}
    for labels, sounds, length in zip(*utterances[::3], utterances.length, strict=True):
        runs = [(sound, len(list(frames))) for sound, frames in itertools.groupby(sounds[:length])]
        assert [sound for sound, _ in runs] == [0, *labels[labels > 0], 0]
        for sound, frames in runs:
            spans[sound].append(frames)
    for phone, frames in zip(PHONES, spans.values(), strict=True):
        low = phone.frames * formants.JITTER[0] / formants.SPEEDS[1]
        high = phone.frames * formants.JITTER[1] / formants.SPEEDS[0]
        assert np.ceil(low) <= min(frames) <= max(frames) <= np.ceil(high)
        # 1 / speed is evenly drawn in its logarithm, jitter evenly around 1; frames are whole, rounded up.
        inverse = (1 / formants.SPEEDS[0] - 1 / formants.SPEEDS[1]) / np.log(
            formants.SPEEDS[1] / formants.SPEEDS[0]
        )
        assert np.mean(frames) == pytest.approx(phone.frames * inverse + 0.5, rel=0.06)


def test_frames_are_as_loud_as_their_sounds(utterances):
    after = np.arange(formants.ticks(6)) >= utterances.length[:, None]
    assert not utterances.frames[after].any()
    decibels = LOUDNESS * (utterances.frames - 1)
    quiet = decibels[(utterances.sounds == 0) & ~after]
    assert np.mean(quiet) == pytest.approx(-22, abs=1.5)
    hertz = formants.centres()
    assert (hertz[0], hertz[-1]) == pytest.approx((100, 8000), rel=1e-4)
    for label, vowel in enumerate(VOWELS, 1):
        mean = decibels[utterances.sounds == label].mean(0)
        assert abs(hertz[mean.argmax()] / vowel.formants[0] - 1) < 0.35, vowel.name
    hiss = 1 + len(VOWELS) + [phone.name for phone in CONSONANTS].index("s")
    assert hertz[decibels[utterances.sounds == hiss].mean(0).argmax()] == pytest.approx(6000, rel=0.2)


def distance(said, wanted):
    """Edits, by the book."""
    table = np.zeros((len(said) + 1, len(wanted) + 1), int)
    table[:, 0], table[0] = np.arange(len(said) + 1), np.arange(len(wanted) + 1)
    for i, j in itertools.product(range(len(said)), range(len(wanted))):
        other = table[i, j] + (said[i] != wanted[j])
        table[i + 1, j + 1] = min(other, table[i, j + 1] + 1, table[i + 1, j] + 1)
    return table[-1, -1]


def collapsed(best):
    return [label for label, _ in itertools.groupby(best) if label]


def test_paths_and_edits(rng):
    logits = rng.normal(size=(9, 60, 4)).astype(np.float32)
    lengths = rng.integers(0, 10, 60)
    wanted = rng.integers(1, 4, (60, 5)) * (np.arange(5) < rng.integers(0, 6, 60)[:, None])
    path = np.asarray(ctc.path(jnp.asarray(logits), jnp.asarray(lengths)))
    errors = np.asarray(ctc.edits(jnp.asarray(path), jnp.asarray(wanted)))
    for i, length in enumerate(lengths):
        best = collapsed(logits[:length, i].argmax(-1))
        assert [label for label in path[:, i] if label] == best
        assert errors[i] == distance(best, [label for label in wanted[i] if label])


def test_the_loss_is_minus_the_log_of_all_alignments(rng):
    """Counted one by one; frames past the end are not read."""
    logits = rng.normal(size=(5, 3, 3)).astype(np.float32)
    lengths, labels = np.array([5, 3, 4]), np.array([[1, 2], [2, 0], [2, 2]])
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    wanted = []
    for i, length in enumerate(lengths):
        total = 0.0
        for way in itertools.product(range(3), repeat=int(length)):
            if collapsed(way) == [label for label in labels[i] if label]:
                total += np.prod([chances[t, i, label] for t, label in enumerate(way)])
        wanted.append(-np.log(total))
    losses = ctc.losses(jnp.asarray(logits), jnp.asarray(lengths), jnp.asarray(labels))
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)
    logits[3:, 1] = 100
    np.testing.assert_allclose(
        ctc.losses(jnp.asarray(logits), jnp.asarray(lengths), jnp.asarray(labels))[1], wanted[1], rtol=1e-4
    )


def by_hand(model, task):
    """The label error rate of the final test, from what the model says; and what it said, as lists."""
    batch = jax.jit(task.sample, static_argnums=1)(jax.random.key(2**31), 16)
    inputs, lengths = np.asarray(batch.inputs).swapaxes(0, 1), np.asarray(batch.lengths)
    outputs = predict(model, inputs, lengths)
    said = [collapsed(row[:length].argmax(-1)) for row, length in zip(outputs, lengths, strict=True)]
    wanted = [[label for label in row if label] for row in np.asarray(batch.targets)]
    assert all((row[length:].argmax(-1) == 0).all() for row, length in zip(outputs, lengths, strict=True))
    rows = model.config.said(outputs, task)
    assert [row["sounds"] for row in rows] == [" ".join(PHONES[label].name for label in row) for row in said]
    return sum(distance(*pair) for pair in zip(said, wanted, strict=True)) / sum(map(len, wanted))


FEW = {"updates": 4, "batch_size": 4, "report_every": 2, "checkpoint_every": 4, "seeds": 1}
FEW |= {"test_sequences": 16, "validation_sequences": 8}


@pytest.mark.scripts
def test_a_model_is_judged_and_shown(tmp_path):
    """The score by hand, the picture, and examples that are read within their lengths."""
    options = {"cells": ("Elman",), "features": 4, "length": 3, "training": Training(**FEW)}
    model = left(speech.Config(**options, out=tmp_path / "run"))
    config, task = model.config, model.task
    assert 0.2 < task.baseline < 1
    scores = trained.judge(model, task)(model.params)
    assert scores["label_error_rate"] == pytest.approx(by_hand(model, task))
    speech.show(dataclasses.replace(model, about={**model.about, "test": scores}), config)
    assert (config.out / "speech.png").read_bytes().startswith(b"\x89PNG")
    with np.load(config.out / "examples.npz") as held:
        inputs, half = held["inputs"][:16], held["lengths"][:16] // 2
        assert held["inputs"].shape == (64, formants.ticks(3), BANDS)
    other = np.where(np.arange(inputs.shape[1])[:, None] < half[:, None, None], inputs, 7).astype(np.float32)
    np.testing.assert_array_equal(predict(model, inputs, half), predict(model, other, half))


@pytest.mark.scripts
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_script(bidirectional, tmp_path):
    options = {"cells": ("GRU",), "features": 4, "length": 3, "bidirectional": bidirectional}
    config = speech.Config(**options, training=Training(**FEW), out=tmp_path / "run")
    speech.main(config)
    model = load(config.out)
    assert model.test["label_error_rate"] == pytest.approx(by_hand(model, config.task()))
    assert (config.out / "speech.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pooling": "last"}, "pooling: expected every, a label may be in any frame, got 'last'"),
        ({"length": 2}, "length: expected at least 3 sounds, got 2"),
    ],
)
def test_what_speech_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        speech.Config(**options).task()
