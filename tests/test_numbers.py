"""The numbers of a run: by name, swept, and where they show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.harness.hyperparameters import Hyperparameters, Optimizer
from experiments.harness.train import make_train
from rnncells import LSTM, Elman, Stack, Zoneout
from rnncells.parts.activations import LeakyReLU
from tests.echo import small

pytestmark = pytest.mark.usefixtures("standard_promotion")

EVERY_NUMBER = {
    "learning_rate": 0.02,
    "clip_norm": 0.05,
    "clip_value": 0.02,
    "weight_decay": 0.5,
    "l2": 0.5,
    "l1": 0.1,
    "noise": 0.1,
    "chrono": 50.0,
    "zoneout": 0.5,
    "dropout": 0.5,
    "VariationalDropout.input_rate": 0.4,
    "kernel_init.scale": 2.0,
    "recurrent_init.scale": 0.5,
}


@pytest.mark.laws
def test_every_number_may_be_swept():
    """A sweep under vmap is each run by itself, every number matters, and rates of 1 silence what they
    should."""
    numbers = {"clip_value": 0.1, "weight_decay": 0.1, "l2": 0.01, "l1": 0.01, "noise": 0.01, "kind": "sgd"}
    scales = {"kernel_init.scale": 1.0, "recurrent_init.scale": 1.0}
    wrapped = {"chrono": 9.0, "zoneout": 0.1, "dropout": 0.2, "fields": scales}
    config = small(cells=("LSTM",), learning_rate=0.1, **numbers, **wrapped)
    train, base = make_train(config), config.numbers("LSTM")

    def run(hyper):
        state = train.init(jax.random.key(0), hyper)
        after, losses = train.advance(state, hyper)
        return losses, jax.tree.map(lambda a, b: jnp.abs(a - b).max(), state.params, after.params)["params"]

    alone = jax.jit(run)
    runs = [base, *(base.replaced({name: value}) for name, value in EVERY_NUMBER.items())]
    stacked = jax.tree.map(lambda *leaves: np.array(leaves, np.float32), *runs)
    swept, _ = jax.jit(jax.vmap(run))(stacked)
    for name, hyper, losses in zip(["", *EVERY_NUMBER], runs, swept, strict=True):
        np.testing.assert_allclose(alone(hyper)[0], losses, rtol=2e-5, err_msg=name)
        assert name == "" or np.abs(losses - swept[0]).max() > 1e-5, name
    quiet = base.replaced(dict.fromkeys(("noise", "l1", "l2", "weight_decay"), 0.0))
    _, changes = alone(quiet.replaced({"zoneout": 1.0}))
    assert max(jax.tree.leaves(changes["RNN_0"])) == 0 < changes["Dense_0"]["bias"][()]
    _, changes = alone(quiet.replaced({"dropout": 1.0}))
    cell = changes["RNN_0"]["cell"]
    assert cell["kernel"] == cell["recurrent_kernel"] == 0 < cell["bias"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"learning_rate": 0.5}, "learning_rate"),
        ({"clip_norm": 0.5}, "clip_norm"),
        ({"clip_value": 0.5}, "clip_value"),
        ({"weight_decay": 0.5}, "weight_decay"),
        ({"noise": 0.5}, "noise"),
        ({"chrono": 0.5}, "forget_bias.t_max"),
        ({"zoneout": 0.5}, "Zoneout.rate"),
        ({"dropout": 0.5}, "dropout"),
        ({"fields": {"init_scale": 0.5}}, "init_scale"),
        ({"fields": {"forget_bias": 0.5}}, "forget_bias"),
        ({"fields": {"recurrent_init.scale": 0.5}, "layers": 3}, "recurrent_init.scale"),
    ],
)
def test_a_number_of_the_config_is_a_number_by_name(options, name):
    before = {"chrono": 9.0} if "chrono" in options else {}
    before |= {key: 0.1 for key in ("zoneout", "dropout") if key in options}
    plain = small(cells=("LSTM",), **before, layers=options.get("layers", 1)).numbers("LSTM")
    assert plain.has(name)
    assert name in plain.names() or name == "forget_bias.t_max"
    changed = plain.replaced({name: 0.5})
    assert changed == small(cells=("LSTM",), **options).numbers("LSTM")
    assert jax.tree.leaves(changed).count(0.5) == options.get("layers", 1) + ("init_scale" in name) + (
        name == "dropout"
    )
    assert changed != plain


@pytest.mark.laws
def test_numbers_of_the_beginning():
    def params(**options):
        config = small(cells=("LSTM",), features=64, **options)
        return jax.jit(config.numbers("LSTM").cell.init, static_argnums=1)(jax.random.key(0), 1)

    plain, scaled = params(), params(fields={"forget_bias": 2.5, "recurrent_init.scale": 0.5})
    np.testing.assert_array_equal(scaled["recurrent_kernel"], 0.5 * plain["recurrent_kernel"])
    np.testing.assert_array_equal(scaled["kernel"], plain["kernel"])
    np.testing.assert_array_equal(scaled["bias"][64:128] - plain["bias"][64:128], np.full(64, 1.5))
    i, f, *_ = np.split(params(chrono=100.0)["bias"], 4)
    np.testing.assert_array_equal(i, -f)
    assert 1 <= np.exp(f).min() < 9 < 90 < np.exp(f).max() <= 99.01


def test_numbers_of_activations():
    """Of a cell inside wrappers and stacks too."""
    cell = Elman(4, activation=LeakyReLU(0.1))
    hyper = Hyperparameters(Optimizer(), Stack((Zoneout(cell, rate=0.1), LSTM(4))))
    assert hyper.has("activation.slope")
    assert "activation.slope" in hyper.names()
    changed = hyper.replaced({"activation.slope": 0.3, "LeakyReLU.slope": 0.5})
    assert changed.cell.cells[0].cell == Elman(4, activation=LeakyReLU(0.5))
    assert changed.cell.cells[1] == LSTM(4)
    with pytest.raises(ValueError, match=r"LeakyReLU.slope: expected finite numbers, got nan"):
        hyper.replaced({"activation.slope": float("nan")}).check()
