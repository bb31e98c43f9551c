"""What a run has left is found again, asked from the command line, and says what is wrong with what it is
given."""

import csv
import dataclasses
import importlib
import io
import json

import jax
import numpy as np
import pytest
import safetensors

import experiments
from experiments import adding, evaluate, fit, load
from experiments.harness import answers, data, given, run, saved, trained
from experiments.harness.data import Parts
from experiments.harness.encoding import Scaler
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.options import Placement, Training
from experiments.harness.supervised import Classification, Regression
from rnncells.tasks import Copy, Parity

pytestmark = pytest.mark.usefixtures("standard_promotion")

INPUTS = np.random.default_rng(0).normal(size=(60, 5, 2)).astype(np.float32)
FIRST = (INPUTS[:, 0, 0] > 0).astype(int)
script = importlib.import_module("experiments.predict")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """A run that tells two classes by name."""
    out = tmp_path_factory.mktemp("runs") / "names"
    parts = data.split(given.arrays(INPUTS, FIRST), 0.2, 0.2)
    task = Classification.of(parts, extras={"classes": ["low", "high"]})
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        fit(None, task=task, cell="Elman", features=6, epochs=3, batch_size=8, verbose=False, out=out)
    return out


def asked(config, capsys):
    script.main(config)
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_predict_from_the_command_line(names, tmp_path, capsys):
    np.save(tmp_path / "a.npy", INPUTS[:7])
    np.savez(tmp_path / "b.npz", inputs=INPUTS[:2])
    (tmp_path / "c.csv").write_text("first,second\n1,2\n3,4\n")
    logits = experiments.predict(load(names), INPUTS[:7])
    rows = asked(script.Config(names, tmp_path / "a.npy"), capsys)
    assert [row["class"] for row in rows] == [["low", "high"][i] for i in logits.argmax(1)]
    weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert [float(row["probability"]) for row in rows] == pytest.approx(weights.max(1), abs=1e-4)
    assert len(asked(script.Config(names, tmp_path / "b.npz", number=0), capsys)) == 2
    assert len(asked(script.Config(names, tmp_path / "c.csv", cell="Elman"), capsys)) == 1
    script.main(script.Config(names, tmp_path / "a.npy", output=tmp_path / "out.csv"))
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 8


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.npy", None, "none.npy: expected a file, found none"),
        ("a.txt", "1", "a.txt: expected a name that ends with .npy, .npz or .csv"),
        ("a.csv", "a,b\n1,2\n3,x\n", r"a.csv, line 3, column 2: expected a number, got 'x'"),
        ("a.csv", "1,2\n3\n", "a.csv, line 2: expected 2 columns, got 1"),
        ("a.csv", "nan,nan\n1,2\n", "a.csv, line 1, column 1: expected a number, got 'nan'"),
        ("a.csv", "", "a.csv: expected numbers, found none"),
        ("a.csv", "1\n2\n", r"inputs: expected 2 numbers a tick, as in training, got float32\[1, 2, 1\]"),
    ],
)
def test_predict_says_what_is_wrong_with_a_file(name, content, words, names, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SystemExit, match=words):
        script.main(script.Config(names, tmp_path / name))


def test_predict_says_who_answers_and_where_it_cannot_write(names, tmp_path, capsys):
    np.save(tmp_path / "a.npy", INPUTS[:7])
    script.main(script.Config(names, tmp_path / "a.npy"))
    assert capsys.readouterr().err == f"Elman, run 0, of {names} answers.\n"
    for output, words in (
        ("none/o.csv", "No such file"),
        ("o.txt", "output: expected a name that ends with"),
    ):
        with pytest.raises(SystemExit, match=words):
            script.main(script.Config(names, tmp_path / "a.npy", output=tmp_path / output))


class Tokens:
    tokens = 10


def test_a_file_of_tokens_has_one_in_each_line(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("symbol\n8\n0\n9\n")
    inputs, lengths = answers.read(file, Tokens())
    np.testing.assert_array_equal(inputs, [[8, 0, 9]])
    assert lengths is None
    assert inputs.dtype == np.int32
    for line in ("8, 6", "8.5", "10", "-1"):
        file.write_text(f"1\n{line}\n")
        words = f"line 2: expected (one token from 0 to 9 in each line, got {line}|1 columns, got 2)\\.$"
        with pytest.raises(ValueError, match=words):
            answers.read(file, Tokens())
    file.write_text("8,6\n")
    with pytest.raises(ValueError, match="line 1: expected one token from 0 to 9 in each line, got 8, 6"):
        answers.read(file, Tokens())


@pytest.mark.parametrize("task", [Parity(4), Copy(4)], ids=["classes", "recall"])
def test_tasks_of_classes_are_answered_by_classes(task):
    outputs = np.zeros((2, 3, task.output_size), np.float32)
    outputs[..., 1] = 2.0
    rows = answers.rows(outputs, task)
    assert [row["tick"] for row in rows] == [0, 1, 2] * 2
    assert {row["class"] for row in rows} == {1}
    others = task.output_size - 1
    assert rows[0]["probability"] == pytest.approx(np.exp(2) / (np.exp(2) + others), abs=1e-4)


def test_load_says_what_is_wrong_with_a_folder(names, tmp_path):
    with pytest.raises(ValueError, match=r"expected a folder that a run has left, with model.json in it"):
        load(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ValueError, match=r"model.json: expected what a run has left"):
        load(tmp_path)
    what = json.loads((names / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(what))
    with pytest.raises(ValueError, match="expected a folder that a run has left, with weights in it"):
        load(tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/Elman-0.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"Elman-0.safetensors: expected weights that a run has left"):
        load(tmp_path)
    what["task"]["class"] = "nowhere:Task"
    (tmp_path / "model.json").write_text(json.dumps(what))
    with pytest.raises(ValueError, match="nowhere:Task: expected a class that can be imported"):
        load(tmp_path)


def test_inputs_must_be_like_those_of_training(names):
    model = load(names)
    for inputs, words in [
        (np.ones((2, 5), int), r"inputs: expected floats \[N, T, I\], as in training, got int32\[2, 5\]"),
        (np.ones((2, 5, 3)), "inputs: expected 2 numbers a tick"),
    ]:
        with pytest.raises(ValueError, match=words):
            experiments.predict(model, inputs)
        with pytest.raises(ValueError, match=words):
            evaluate(model, inputs, [0, 1])


@pytest.mark.scripts
def test_an_experiment_is_loaded_from_its_folder(tmp_path):
    """A script's run, synthetic task included; its header says what the weights are of."""
    training = Training(
        updates=4, batch_size=4, report_every=2, checkpoint_every=2, test_sequences=16, seeds=2
    )
    config = adding.Config(
        cells=("GRU",), features=(4, 3), length=6, training=training, out=tmp_path / "run", chrono=5.0
    )
    lines = run.main("adding", config)
    assert [line["seed"] for line in lines] == [0, 1]
    model = load(tmp_path / "run", run=1)
    assert model.config == config
    assert model.task == config.task()
    assert model.test == pytest.approx(lines[1]["test"])
    batch = config.task().sample(jax.random.key(2**31), 16)
    inputs = np.asarray(batch.inputs).swapaxes(0, 1)
    outputs = experiments.predict(model, inputs)
    assert np.mean((outputs[:, -1] - np.asarray(batch.targets)[-1]) ** 2) == pytest.approx(
        model.test["mse"], rel=1e-5
    )
    with safetensors.safe_open(tmp_path / "run/weights/GRU-1.safetensors", "numpy") as held:
        header = {name: json.loads(value) for name, value in held.metadata().items()}
    assert (header["cell"], header["seed"], header["test"]) == ("GRU", 1, lines[1]["test"])


def test_configs_come_back(tmp_path):
    config = adding.Config(
        features=(3, 4),
        chrono=2.0,
        fields={"recurrent_init.scale": 1.0},
        optimizer=Optimizer(clip_norm=None, kind="sgd"),
        training=Training(lengths=(3, 5), memory=1.5),
        placement=Placement(devices=2),
        out=tmp_path,
    )
    assert saved.restored(adding.Config, json.loads(json.dumps(saved.plain(config)))) == config
    assert (
        saved.restored(adding.Config, json.loads(json.dumps(saved.plain(adding.Config())))) == adding.Config()
    )
    task = Regression.of(
        Parts(given.arrays(INPUTS, INPUTS[:, 0])),
        extras={"scaler": Scaler.fitted(INPUTS).plain()},
        scale=(1.0, 2.0),
    )
    again = saved.restored(Regression, json.loads(json.dumps(saved.plain(task))))
    assert again.parts is None
    for field in dataclasses.fields(task):
        if field.name != "parts":
            assert getattr(again, field.name) == getattr(task, field.name), field.name
    with pytest.raises(ValueError, match="parts: expected data, got none"):
        again.sample(jax.random.key(0), 1)


def test_the_script_stands_in_for_the_function(names):
    assert experiments.predict is script
    answers = trained.predict(load(names), INPUTS[:2])
    np.testing.assert_array_equal(experiments.predict(load(names), INPUTS[:2]), answers)
