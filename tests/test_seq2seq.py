"""From strings to strings: what is asked, how answers are taught and found, and what a run says of itself."""

import csv
import dataclasses
import datetime
import importlib
import io
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnncells
from experiments import evaluate, load, seq2seq
from experiments.harness.options import Training
from experiments.parts import string_pairs
from experiments.parts.encoder_decoder import Answering, EncoderDecoder, Taught
from rnncells.tasks import Batch
from tests.scripts import said_by

pytestmark = pytest.mark.usefixtures("standard_promotion")

END, T, V = 2, 3, 5
SOURCE = np.array([[3, 4, 3, 0], [4, 4, 3, 3]]).T
LENGTHS = np.array([3, 4])
predict = importlib.import_module("experiments.predict")


def made(dropout=0.0, **options):
    """A small model with random weights, and its parameters."""
    cell = rnncells.Bidirectional(rnncells.VariationalDropout(rnncells.GRU(4), rate=dropout))
    module = EncoderDecoder(cell, V, embedding=3, longest=T, end=END, **options)

    def drawn(key):
        params = module.init(
            key, {"source": SOURCE, "target": SOURCE[:T]}, lengths=LENGTHS, deterministic=True
        )
        return jax.tree.map(lambda a: 2 * jax.random.normal(jax.random.fold_in(key, a.size), a.shape), params)

    return module, jax.jit(drawn)(jax.random.key(1))


def compiled(module, params, **options):
    """A function of inputs, lengths, the progress of the training and a seed."""

    def said(given, lengths=LENGTHS, progress=1.0, seed=0):
        rngs = {"dropout": jax.random.key(seed)}
        return module.apply(params, given, lengths=lengths, progress=progress, rngs=rngs, **options)

    return jax.jit(said)


def scored(taught, answers):
    """Logarithms of the probabilities of answers [T, N] to the first source, taught symbol by symbol."""
    number = answers.shape[1]
    given = {"source": np.repeat(SOURCE[:, :1], number, 1), "target": answers}
    logits = np.asarray(taught(given, np.repeat(LENGTHS[:1], number)).logits)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    each = np.take_along_axis(logs, answers[..., None], -1)[..., 0]
    return np.where(answers == 0, 0, each).sum(0)


@pytest.mark.laws
def test_a_beam_that_holds_everything_is_an_exhaustive_search():
    module, params = made()
    every = set()
    for tokens in itertools.product(range(1, V), repeat=T):
        ends = [i for i, token in enumerate(tokens) if token == END]
        every.add(tokens[: ends[0] + 1] + (0,) * (T - ends[0] - 1) if ends else tokens)
    answers = np.array(sorted(every)).T
    taught = compiled(module, params, deterministic=True)
    scores = scored(taught, answers)
    assert np.exp(scores).sum() == pytest.approx(1, rel=1e-4)
    order = np.argsort(-scores)
    found = compiled(module.clone(beam=64), params)({"source": SOURCE})
    np.testing.assert_allclose(found.scores[0, : len(order)], scores[order], rtol=1e-4)
    np.testing.assert_array_equal(found.tokens[:, 0, : len(order)], answers[:, order])
    assert np.max(found.scores[0, len(order) :]) < -1e8  # nothing else is left
    narrow = compiled(module.clone(beam=4), params)({"source": SOURCE})
    np.testing.assert_allclose(narrow.scores[0], scored(taught, np.asarray(narrow.tokens[:, 0])), rtol=1e-4)


@pytest.mark.laws
def test_a_beam_of_one_is_greedy():
    """And its attention lies on what is there."""
    module, params = made()
    found = compiled(module, params)({"source": SOURCE})
    taught = compiled(module, params, deterministic=True)
    said = np.zeros((T, 2), np.int32)
    for t in range(T):
        logits = taught({"source": SOURCE, "target": said}).logits[t]
        said[t] = np.where((said[:t] == END).any(0), 0, np.argmax(logits, -1))
    np.testing.assert_array_equal(found.tokens[..., 0], said)
    assert found.attention.shape == (T, 2, 1, 4)
    np.testing.assert_allclose(found.attention[:, :, 0].sum(-1), said != 0, atol=1e-6)
    assert not np.asarray(found.attention[:, 0, 0, 3]).any()


@pytest.mark.laws
def test_scheduled_sampling_lies_between_teaching_and_greed():
    given = {"source": SOURCE, "target": np.array([[3, 4, END], [4, END, 0]]).T}
    module, params = made(dropout=0.4)
    forced = compiled(module, params)
    taught = forced(given).logits
    assert np.abs(taught - forced(given, seed=1).logits).max() > 0.01
    sampled = compiled(module.clone(sampled=1.0), params)
    np.testing.assert_allclose(sampled(given, progress=0.0).logits, taught, rtol=1e-5)
    module, params = made()
    alone = compiled(module.clone(sampled=1.0), params)(given).logits
    greedy = np.asarray(compiled(module, params)({"source": SOURCE}).tokens[..., 0])
    until = np.cumsum(greedy == END, 0) - (greedy == END) == 0
    np.testing.assert_array_equal(np.argmax(alone, -1)[until], greedy[until])


def test_short_sources_are_learned_first():
    module, params = made(curriculum=0.5, lengths_from=3, lengths_to=5)
    given = {"source": SOURCE, "target": SOURCE[:T]}
    learned = jax.jit(lambda progress: compiled(module, params)(given, progress=progress).learned)
    assert [learned(progress).tolist() for progress in (0.0, 0.24, 0.26, 1.0)] == [
        [True, False],
        [True, False],
        [True, True],
        [True, True],
    ]
    judged = compiled(module, params, deterministic=True)
    assert judged(given, progress=0.0).learned.tolist() == [True, True]


def test_right_answers_by_hand():
    task = Answering(input_size=4, output_size=4, length=3)
    targets = jnp.array([[3, 2, 0], [3, 3, 2], [2, 0, 0]]).T
    said = jnp.array([[3, 2, 1], [3, 1, 2], [2, 3, 3]]).T
    outputs = Taught(5.0 * jax.nn.one_hot(said, 4), jnp.array([True, False, True]))
    batch = Batch({}, targets, targets != 0)
    found = {name: float(mean.value) for name, mean in task.metrics(outputs, batch).items()}
    right, wrong = -np.log(np.exp(5) / (np.exp(5) + 3)), -np.log(1 / (np.exp(5) + 3))
    assert found["exact"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(5 / 6)
    assert found["loss"] == pytest.approx((5 * right + wrong) / 6, rel=1e-5)
    assert float(task.loss(outputs, batch)) == pytest.approx(right, rel=1e-4)


def test_dates_are_what_they_say():
    pairs = string_pairs.dates(3000)
    assert len(set(pairs.targets)) == 3000
    years = [datetime.date.fromisoformat(target).year for target in pairs.targets]
    assert (min(years), max(years)) == (1950, 2049)
    forms = ("%d.%m.%Y", "%d.%m.%y", "%m/%d/%Y", "%Y/%m/%d", "%Y%m%d", "%d %B %Y", "%d-%b-%y", "%B %d, %Y")
    found = dict.fromkeys(forms, 0)
    for source, target in zip(pairs.sources, pairs.targets, strict=True):
        day = datetime.date.fromisoformat(target)
        for form in forms:
            if "%y" in form and not 1969 <= day.year <= 2048:
                continue  # Python reads other centuries into two digits
            try:
                parsed = datetime.datetime.strptime(source, form).date()
            except ValueError:
                continue
            assert parsed == day, (source, form)
            found[form] += 1
    assert all(150 < count < 350 for count in found.values())
    with pytest.raises(
        ValueError, match="pairs: expected at most the 36525 days from 1950 to 2049, got 40000"
    ):
        string_pairs.dates(40000)


def test_sums_are_sums():
    pairs = string_pairs.sums(2000, 3)
    both = [tuple(map(int, source.rstrip("=").split("+"))) for source in pairs.sources]
    assert [str(a + b) for a, b in both] == pairs.targets
    assert len({tuple(sorted(each)) for each in both}) == 2000
    assert max(max(each) for each in both) > 990
    digits = np.bincount([len(str(a)) for a, _ in both])
    assert digits[1:].min() > 0
    assert np.mean([a > b for a, b in both]) == pytest.approx(0.5, abs=0.05)
    with pytest.raises(ValueError, match=r"pairs: expected at most the 55 sums of 1 digits .*, got 60"):
        string_pairs.sums(60, 1)


def test_parts_have_nothing_in_common():
    own = seq2seq.Config(pairs=200).lesson()
    parts = [set(zip(part.sources, part.targets, strict=True)) for part in own.pairs]
    assert list(map(len, parts)) == [160, 20, 20]
    assert len(set.union(*parts)) == 200
    train = own.task.parts.train
    known = seq2seq.vocabulary(own.task)
    first = own.pairs[0].sources[0]
    assert "".join(known.decode(train.inputs["source"][0])) == first
    assert train.lengths[0] == len(first)
    assert "".join(known.decode(train.targets[0])) == own.pairs[0].targets[0] + seq2seq.END
    assert set("".join(own.pairs[0].sources + own.pairs[0].targets)) == set(known.symbols) - {seq2seq.END}


def test_the_most_similar_source():
    train = string_pairs.Pairs(["abc", "xyz", "12"], ["A", "X", "1"], "")
    assert string_pairs.nearest(train, ["abd", "1 2 12", "yz"]) == ["A", "1", "X"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a moment: strings turned round, from a file with a source that comes twice."""
    folder = tmp_path_factory.mktemp("pairs")
    words = ["".join(word) for word in itertools.product("abc", repeat=4)]
    rows = [f"{word},{word[::-1]}" for word in [*words, words[0]]]
    (folder / "turned.csv").write_text("\n".join(["from,to", *rows]) + "\n")
    training = Training(updates=30, batch_size=16, report_every=10, checkpoint_every=10, seeds=1)
    config = seq2seq.Config(
        features=12, embedding=8, csv=folder / "turned.csv", columns=("from", "to"), beam=3, training=training
    )
    config = dataclasses.replace(config, out=folder / "run", scheduled_sampling=0.2)
    return config, said_by(seq2seq, config)


@pytest.mark.scripts
def test_what_is_taught_right_is_said_right(trained):
    """The score of a run is the share of right answers that the saved weights say by themselves."""
    config, printed = trained
    model = load(config.out)
    own = config.lesson()
    test = own.pairs[2]
    said = seq2seq.texts(seq2seq.answers(model, test.sources, 1), seq2seq.vocabulary(model.task))
    right = np.mean(np.array(said) == np.array(test.targets))
    assert model.test["exact"] == pytest.approx(right)
    assert evaluate(model, own.task.parts.test) == pytest.approx(model.test, rel=1e-5)
    assert f"GRU, greedy: {right:.2%} are right" in printed
    assert "turned.csv: 82 rows read, 81 used; 1 left out: 'from' was there before (line 83)" in printed
    assert f"most similar: {own.task.baseline:.2%} of 8 answers" in printed
    assert (config.out / "seq2seq.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.scripts
def test_predict_answers_new_lines(trained, tmp_path, capsys):
    config, _ = trained
    (tmp_path / "new.txt").write_text("abca\ncab\n")
    predict.main(predict.Config(config.out, tmp_path / "new.txt"))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    model = load(config.out)
    found = seq2seq.answers(model, ["abca", "cab"], 3)
    assert [row["answer"] for row in rows] == seq2seq.texts(found, seq2seq.vocabulary(model.task))
    assert [float(row["probability"]) for row in rows] == pytest.approx(np.exp(found.scores[:, 0]), abs=1e-4)
    for content, words in [
        ("abca\n\n", "new.txt, line 2: expected a string, found none"),
        ("abxa\n", "new.txt, line 1: expected symbols that were learned, got 'x'"),
        ("", "new.txt: expected a string in each line, found none"),
    ]:
        (tmp_path / "new.txt").write_text(content)
        with pytest.raises(SystemExit, match=words):
            predict.main(predict.Config(config.out, tmp_path / "new.txt"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beam": 0}, "beam: expected at least 1, got 0"),
        ({"digits": 0}, "digits: expected at least 1, got 0"),
        ({"pairs": 5}, "pairs: expected at least 20, got 5"),
        ({"embedding": 0}, "embedding: expected at least 1, got 0"),
        ({"curriculum": 1.5}, "curriculum: expected a part between 0 and 1, got 1.5"),
        ({"scheduled_sampling": -0.1}, "scheduled_sampling: expected a part between 0 and 1, got -0.1"),
    ],
)
def test_what_cannot_be_asked(options, words):
    with pytest.raises(ValueError, match=words):
        seq2seq.Config(**options)
