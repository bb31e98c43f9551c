"""Language models: counting, by hand as well; what a run says against its saved weights; and sampling."""

import collections
import csv
import dataclasses
import importlib
import io

import jax
import numpy as np
import pytest

from experiments import language_model, load, sample
from experiments.harness.encoding import UNKNOWN, Vocabulary
from experiments.harness.options import Training
from experiments.parts import corpus, text
from experiments.parts.ngrams import NGrams, longest
from tests.scripts import said_by

pytestmark = pytest.mark.usefixtures("standard_promotion")

TEXT = "the cat sat on the mat, and the dog sat on the cat.\n" * 12 + "a zebra? no: the mat.\n" * 2
predict = importlib.import_module("experiments.predict")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a moment on a text of some lines: its config, and what it printed."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "lines.txt").write_text(TEXT)
    training = Training(
        updates=12,
        batch_size=3,
        truncate_every=5,
        report_every=4,
        checkpoint_every=4,
        seeds=1,
    )
    config = language_model.Config(
        level="character",
        cells=("Elman",),
        features=6,
        embedding=4,
        text=folder / "lines.txt",
        training=training,
        sample=20,
    )
    config = dataclasses.replace(config, out=folder / "run")
    return config, said_by(language_model, config)


def by_hand(tokens, context, symbol, order, symbols):
    """Modified Kneser-Ney, literally: counts of a Counter, one probability at a time."""
    if order == 0:
        return 1 / symbols

    def grams(n):
        return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]

    def counts(n):
        if n == by_hand.top:
            return collections.Counter(grams(n))
        return collections.Counter(gram[1:] for gram in set(grams(n + 1)))

    own = counts(order)
    of = [max(sum(count == i for count in own.values()), 1) for i in (1, 2, 3, 4)]
    share = of[0] / (of[0] + 2 * of[1])
    discounts = [min(max(i - (i + 1) * share * of[i] / of[i - 1], 0.1), i) for i in (1, 2, 3)]
    history = tuple(context[len(context) - order + 1 :]) if order > 1 else ()
    following = {gram: count for gram, count in own.items() if gram[:-1] == history}
    lower = by_hand(tokens, context, symbol, order - 1, symbols)
    if not following:
        return lower
    count = own[(*history, symbol)]
    kept = count - discounts[min(count, 3) - 1] if count else 0
    freed = sum(discounts[min(count, 3) - 1] for count in following.values())
    return (kept + freed * lower) / sum(following.values())


def test_ngrams_against_counts_by_hand(rng):
    tokens, held = rng.integers(2, 6, 80), rng.integers(2, 7, 12)
    for order in (1, 2, 4):
        by_hand.top = order
        counted = NGrams.counted(tokens, order, 7)
        expected = [
            by_hand(tokens.tolist(), held[max(i - order + 1, 0) : i].tolist(), held[i], min(order, i + 1), 7)
            for i in range(len(held))
        ]
        np.testing.assert_allclose(counted.probabilities(held), expected, rtol=1e-12)
        np.testing.assert_allclose(counted.bits(held), -np.log2(expected[1:]), rtol=1e-12)
        for context in (tokens[:order], [6, 6, 6]):  # seen, and never seen
            whole = [counted.probabilities(np.array([*context, symbol]))[-1] for symbol in range(7)]
            assert sum(whole) == pytest.approx(1)


def test_a_bigram_by_hand():
    """abab: ab twice, ba once. One count of 1 and one of 2: the share is 1/3, D1 is 1/3, D2 is 1."""
    counted = NGrams.counted(np.array([0, 1, 0, 1]), 2, 2)
    unigram = (
        1 - 1 / 3 + 2 / 3 * 1 / 2
    ) / 2  # both symbols come after one other: D1 of two counts of 1 is 1/3
    assert unigram == pytest.approx(1 / 2)
    assert counted.probabilities(np.array([0, 1]))[1] == pytest.approx((2 - 1 + 1 * unigram) / 2)
    assert counted.probabilities(np.array([1, 0]))[1] == pytest.approx((1 - 1 / 3 + 1 / 3 * unigram) / 1)


def test_orders_that_cannot_be_counted():
    assert [longest(symbols) for symbols in (2, 105, 2318)] == [62, 9, 5]
    with pytest.raises(ValueError, match="order: expected 1 to 9 for 105 symbols, got 10"):
        NGrams.counted(np.arange(50), 10, 105)
    with pytest.raises(ValueError, match="order: expected at most the 3 symbols of the text, got 4"):
        NGrams.counted(np.arange(3), 4, 105)


def test_symbols_come_back():
    words = 'An "if" statement (see\n\n\nbelow), or so.\f'
    assert text.symbols(words, "word")[:4] == ["An", '"', "if", '"']
    assert text.joined(text.symbols(words, "character"), "character") == words
    assert (
        text.joined(text.symbols("one (two), three.\n\nfour", "word"), "word") == "one (two), three.\n\nfour"
    )


def test_the_documentation_is_divided_by_document():
    parts, report = corpus.topics()
    assert "characters left out: paragraphs that a longer document holds" in report
    paragraphs = [{p for p in part.replace("\f", "").split("\n\n") if len(p) > 60} for part in parts]
    assert not paragraphs[0] & paragraphs[1]
    assert not paragraphs[0] & paragraphs[2]
    assert not paragraphs[1] & paragraphs[2]
    whole = sum(map(len, parts))
    assert all(0.05 * whole < len(part) <= 0.1 * whole for part in parts[1:])
    own = corpus.corpus(None, "word", 2)
    assert own.tokens[1].max() < len(own.vocabulary)
    assert own.by_order[0] > own.by_order[1] > own.by_order[2]
    assert own.by_order[len(own.counted.tables) - 1] == min(own.by_order)


def test_a_file_is_divided_in_its_order(tmp_path):
    """What comes once in the training part is not known."""
    whole = "ab" * 95 + "cd" + "ba" * 12 + "ac" * 12
    (tmp_path / "a.txt").write_bytes(("\ufeff" + whole).encode())
    own = corpus.corpus(tmp_path / "a.txt", "character", 2)
    assert own.vocabulary.symbols == ("a", "b")
    assert own.tokens[0].tolist() == [2, 3] * 95 + [UNKNOWN] * 2
    assert [part.tolist() for part in own.tokens[1:]] == [[3, 2] * 12, [2, UNKNOWN] * 12]
    assert own.report.splitlines() == [
        "a.txt, divided in its order.",
        "192, 24, 24 characters to learn from, to choose by and to test; 2 symbols.",
        "Not known, because they come less than 2 times in the first part: 1.04%, 0.00%, 50.00%.",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "a.txt: expected a file, found none"),
        (b" \n", "a.txt: expected text, found none"),
        (b"one\ntwo \xff", "a.txt, line 2: expected text in UTF-8, got the byte 0xff"),
        (b"a text too short", "a.txt: expected at least 20 characters in each part, got 2"),
    ],
)
def test_what_is_no_text(content, words, tmp_path):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        language_model.Config(text=tmp_path / "a.txt", level="character").task()


def test_streams_need_segments():
    with pytest.raises(ValueError, match="truncate_every: expected the ticks of a segment"):
        language_model.Config(training=Training())


def states(weights, tokens):
    """Logits of an Elman network after each token, in NumPy, from a zero state."""
    cell, dense = weights["RNN_0"]["cell"], weights["Dense_0"]
    h, found = np.zeros(6), []
    for token in tokens:
        x = weights["Embed_0"]["embedding"][token]
        h = np.tanh(x @ cell["kernel"] + h @ cell["recurrent_kernel"] + cell["bias"])
        found.append(h @ dense["kernel"] + dense["bias"])
    return np.array(found)


def test_the_score_is_that_of_the_saved_weights(trained):
    """Every stream from a zero state to its end, though it was read in segments of five ticks."""
    config, printed = trained
    model = load(config.out)
    weights = jax.tree.map(np.float64, model.params["params"])
    test = config.task().parts.test
    assert test.inputs.shape[1] % 5
    nats = []
    for inputs, targets, mask in zip(test.inputs, test.targets, test.mask, strict=True):
        logs = np.asarray(jax.nn.log_softmax(states(weights, inputs)))
        nats += (-logs[np.arange(len(inputs)), targets])[mask].tolist()
    own = corpus.corpus(config.text, "character", 2)
    assert len(nats) == len(own.tokens[2]) - 1
    assert model.test["loss"] == pytest.approx(np.mean(nats), rel=1e-4)
    assert model.test["perplexity"] == pytest.approx(np.exp(np.mean(nats)), rel=1e-4)
    assert model.test["bits"] == pytest.approx(np.mean(nats) / np.log(2), rel=1e-4)
    assert (
        f"Elman: {model.test['bits']:.3f} bits a symbol, perplexity {model.test['perplexity']:.2f}" in printed
    )
    assert f"{len(own.counted.tables)}-grams: {config.task().baseline:.3f} bits" in printed
    assert own.report in printed
    np.testing.assert_allclose(
        language_model.surprise(model, own.tokens[2][:30]),
        [
            -np.log2(np.exp(row - row.max())[t] / np.exp(row - row.max()).sum())
            for row, t in zip(states(weights, own.tokens[2][:29]), own.tokens[2][1:30], strict=True)
        ],
        rtol=1e-4,
    )
    assert (config.out / "language_model.png").read_bytes().startswith(b"\x89PNG")


def test_sampling_without_heat_is_greedy(trained):
    """The cell is wrapped in dropout, of which nothing is drawn."""
    config, _ = trained
    model = load(config.out)
    weights = jax.tree.map(np.float64, model.params["params"])
    tokens = config.task().parts.test.inputs[0, :4].tolist()
    for _ in range(12):
        logits = states(weights, tokens)[-1]
        logits[: UNKNOWN + 1] = -np.inf
        tokens.append(int(logits.argmax()))
    np.testing.assert_array_equal(text.sample(model, np.array(tokens[:4]), 12, 0.0), tokens[4:])
    np.testing.assert_array_equal(
        text.sample(model, np.array(tokens[:1]), 1, 1e-4), text.sample(model, np.array(tokens[:1]), 1, 0.0)
    )


def test_sampling_follows_the_probabilities(trained):
    """First symbols of many seeds, at a temperature."""
    config, _ = trained
    model = load(config.out)
    weights = jax.tree.map(np.float64, model.params["params"])
    logits = states(weights, [2, 3])[-1]
    logits[: UNKNOWN + 1] = -np.inf
    expected = np.exp(logits / 1.5)
    drawn = text.sample(model, np.array([2, 3]), 400, 1.5)
    again = text.sample(model, np.array([2, 3]), 400, 1.5)
    np.testing.assert_array_equal(drawn, again)
    assert (drawn != text.sample(model, np.array([2, 3]), 400, 1.5, seed=1)).any()
    assert drawn.min() > UNKNOWN
    chances = expected / expected.sum()
    # Along the way each symbol has the probability that the network gives it then.
    along = states(weights, [2, 3, *drawn[:-1]])[1:] / 1.5
    along[:, : UNKNOWN + 1] = -np.inf
    probable = np.exp(along - along.max(1, keepdims=True))
    probable /= probable.sum(1, keepdims=True)
    np.testing.assert_allclose(probable[0], chances)
    surprise = -np.log(probable[np.arange(400), drawn])
    entropy = -(probable * np.log(np.maximum(probable, 1e-300))).sum(1)
    assert surprise.mean() == pytest.approx(entropy.mean(), abs=4 * surprise.std() / 20)


def test_more_text_from_the_command_line(trained, capsys):
    config, _ = trained
    sample.main(sample.Config(config.out, prompt="the c", length=15, temperature=0.0))
    shown = capsys.readouterr().out.rstrip("\n")
    model = load(config.out)
    vocabulary = Vocabulary.restored(model.extras["vocabulary"])
    following = text.sample(model, vocabulary.encode("the c"), 15, 0.0)
    assert shown == ("the c" + "".join(vocabulary.decode(following))).rstrip("\n")
    for change, words in [
        ({"prompt": ""}, "prompt: expected at least one symbol, got none"),
        ({"temperature": -1.0}, "temperature: expected at least 0, got -1"),
        ({"length": 0}, "length: expected at least 1, got 0"),
        ({"run": config.out.parent}, "expected a folder that a run has left"),
    ]:
        with pytest.raises(SystemExit, match=words):
            sample.main(dataclasses.replace(sample.Config(config.out), **change))


def test_predict_says_what_follows_each_symbol(trained, capsys):
    config, _ = trained
    file = config.out.parent / "new.txt"
    file.write_text("the zo")
    predict.main(predict.Config(config.out, file))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    model = load(config.out)
    weights = jax.tree.map(np.float64, model.params["params"])
    vocabulary = Vocabulary.restored(model.extras["vocabulary"])
    best = states(weights, vocabulary.encode("the zo")).argmax(1)
    assert [row["class"] for row in rows] == [model.extras["classes"][i] for i in best]
