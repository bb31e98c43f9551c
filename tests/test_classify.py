"""Classes of texts and images: what is divided how, and figures that come back by hand."""

import csv
import importlib
import io

import numpy as np
import pytest
import safetensors.numpy
import tyro

from experiments import classify, load, sweep
from experiments.harness import data
from experiments.harness.data import Arrays
from experiments.harness.encoding import Vocabulary
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.options import Training
from experiments.harness.search import points
from experiments.parts import labelled_texts
from tests.echo import read
from tests.scripts import said_by

pytestmark = pytest.mark.usefixtures("standard_promotion")

predict = importlib.import_module("experiments.predict")
CLASSES = ["early", "late", "never"]


def text_of(number):
    """Letters among which an x stands early, late or never."""
    rng = np.random.default_rng(number)
    letters = list(rng.choice(list("abcd"), rng.integers(5, 12)))
    place = {"early": 0, "late": len(letters) - 1}.get(CLASSES[number % 3])
    if place is not None:
        letters[place] = "x"
    return "".join(letters)


TEXTS = [text_of(i) for i in range(240)]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "letters.csv"
    rows = [f"{text}\t{CLASSES[i % 3]}\t{i}" for i, text in enumerate(TEXTS)]
    file.write_text("\n".join(["words\twhere\tline", *rows, "\tlate\t7", "abc\t\t8"]))
    return classify.Config(
        cells=("Elman",),
        features=12,
        embedding=5,
        bidirectional=False,
        dropout=None,
        csv=file,
        text="words",
        label="where",
        optimizer=Optimizer(learning_rate=0.02),
        training=Training(updates=150, report_every=50, batch_size=32, checkpoint_every=150, seeds=1),
        out=tmp_path_factory.mktemp("runs") / "letters",
    )


@pytest.fixture(scope="module")
def said(config):
    return said_by(classify, config)


def by_hand(config, texts):
    """Logits from the saved weights and vocabulary."""
    weights = safetensors.numpy.load_file(config.out / "weights/Elman-0.safetensors")
    weights = {"/".join(name.split("/")[-2:]): leaf for name, leaf in weights.items()}
    symbols = load(config.out).extras["vocabulary"]
    found = []
    for text in texts:
        h = np.zeros(12)
        for letter in text:
            x = weights["Embed_0/embedding"][2 + symbols.index(letter) if letter in symbols else 1]
            h = np.tanh(
                x @ weights["cell/kernel"] + h @ weights["cell/recurrent_kernel"] + weights["cell/bias"]
            )
        found.append(h @ weights["Dense_0/kernel"] + weights["Dense_0/bias"])
    return np.array(found)


def test_the_figures_are_those_of_the_weights(config, said):
    """Sentence, last line, table and `load` say one accuracy: that of a recurrence in NumPy."""
    test = config.task().data.test
    vocabulary = Vocabulary.restored(load(config.out).extras["vocabulary"])
    texts = [
        "".join(vocabulary.decode(row[:length]))
        for row, length in zip(test.inputs, test.lengths, strict=True)
    ]
    labels = np.array([TEXTS.index(text) % 3 for text in texts])
    np.testing.assert_array_equal(test.targets, labels)
    answers = by_hand(config, texts).argmax(1)
    accuracy = np.mean(answers == labels)
    (line,) = [line for line in read(config.out) if "test" in line]
    assert line["test"]["accuracy"] == pytest.approx(accuracy)
    assert load(config.out).test["accuracy"] == line["test"]["accuracy"]
    learned = np.bincount(config.task().data.train.targets)
    majority = np.mean(labels == learned.argmax())
    assert (
        f"Right in the test part: Elman {accuracy:.1%}; always {CLASSES[learned.argmax()]} {majority:.1%}."
        in said
    )
    assert accuracy > majority + 0.2
    table = [line.split("|")[1:-1] for line in (config.out / "classes.md").read_text().splitlines()[2:]]
    for i, (name, trained, there, right, _) in enumerate(table):
        assert (name.strip(), int(trained), int(there)) == (CLASSES[i], learned[i], np.sum(labels == i))
        assert right.strip() == f"{np.mean(answers[labels == i] == i):.0%}"
    assert (config.out / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_new_texts(config, said, tmp_path, capsys):
    """One in each line, or in a column of the same name; a letter that was never seen is unknown."""
    texts = ["xabc", "abcx", "ab?c", "x"]
    (tmp_path / "new.txt").write_text("\n".join(texts) + "\n")
    (tmp_path / "new.csv").write_text("words,n\n" + "".join(f"{text},1\n" for text in texts))
    logits = by_hand(config, texts)
    weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for name in ("new.txt", "new.csv"):
        predict.main(predict.Config(config.out, tmp_path / name))
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert [row["class"] for row in rows] == [CLASSES[i] for i in logits.argmax(1)]
        assert [float(row["probability"]) for row in rows] == pytest.approx(weights.max(1), abs=1e-3)
    for content, line in (("", 1), ("abc\n\nx\n", 2)):
        (tmp_path / "new.txt").write_text(content)
        with pytest.raises(SystemExit, match=rf"new.txt, line {line}: expected a text, found none"):
            predict.main(predict.Config(config.out, tmp_path / "new.txt"))


def test_place_names(capsys):
    """Each name is in one language, no territory in two parts, and every name is counted."""
    examples = classify.places()
    said = capsys.readouterr().err
    read, used, alike, twice = (int(word) for word in said.replace(";", "").split() if word.isdigit())
    assert read == used + alike + twice
    assert used == len(examples.texts) == len(set(examples.texts)) > 1500
    assert examples.texts[examples.groups.index("FI")] in {
        "Finnland",
        "Finlandia",
        "Suomi",
        "Finlande",
        "Finsko",
    }
    assert "Deutschland" in examples.texts
    assert "Peru" not in examples.texts
    numbers = Arrays(np.arange(used), np.array(examples.labels), np.ones(used, bool))
    parts = data.split(numbers, groups=examples.groups)
    groups = [{examples.groups[row] for row in part.inputs} for part in parts]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert sorted(row for part in parts for row in part.inputs) == list(range(used))
    task = classify.Config().task()
    assert (task.output_size, task.naive) == (12, "majority class")
    assert [len(part.targets) for part in task.data] == [len(part.targets) for part in parts]
    assert len(np.unique(task.data.test.targets)) == 12


def test_what_cannot_be_told_apart_is_counted():
    """Of a, a, a and b in the test part, of which one a is of another class, three can be right."""
    texts, labels = ["a", "a", "a", "b", "longer"], [0, 0, 1, 0, 1]
    examples = labelled_texts.Examples("mine", texts, labels, ["no", "yes"], texts)
    pieces = [labelled_texts.pieces(text, "characters", 4) for text in texts]
    seen = Arrays(np.array([[2, 0], [1, 2]]), np.array([0, 1]), np.ones(2, bool))
    test = Arrays(np.arange(4), np.array(labels[:4]), np.ones(4, bool))
    assert labelled_texts.said(examples, pieces, "characters", 4, data.Parts(seen, test=seen), test) == [
        "1 texts have more than 4 characters, of which the first are read",
        "2 characters of validation and test are not in training, and read as unknown",
        "1 texts stand under several classes: at best 75.0% of the test part can be right",
    ]


def test_words_are_units_too():
    assert labelled_texts.pieces("one  two three", "words", 2) == ["one", "two"]
    assert labelled_texts.pieces("one", "characters", 2) == ["o", "n"]


@pytest.mark.parametrize("name", ["digits", "permuted-digits"])
def test_digits(name):
    config = classify.Config(data=name)
    task = config.task()
    assert (task.input_size, task.output_size, task.length, task.tokens) == (1, 10, 64, None)
    assert [len(part.targets) for part in task.data] == [1197, 300, 300]
    assert config.model(task).keywords["embedding"] is None
    first = task.data.train.inputs[0, :, 0]
    plain = classify.Config(data="digits").task().data.train.inputs[0, :, 0]
    assert sorted(first) == sorted(plain)
    assert (first == plain).all() == (name == "digits")


def test_poolings_are_one_sweep():
    words = "--vary pooling=last,mean,attention classify --cells GRU --training.seeds 2"
    asked = tyro.cli(sweep.Config, args=words.split(), config=(tyro.conf.OmitSubcommandPrefixes,))
    assert isinstance(asked.experiment, classify.Config)
    assert [point["pooling"] for point in points(asked)] == ["last", "mean", "attention"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "digits", "csv": "mine.csv"}, "csv: expected none beside data=digits, got mine.csv"),
        ({"length": 0}, "length: expected at least 1, got 0"),
        (
            {"validation": 0.5, "test": 0.5},
            "validation, test: expected fractions that leave some for training",
        ),
    ],
)
def test_what_a_classification_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        classify.Config(**options)
