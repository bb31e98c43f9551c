"""A mistake gets a sentence: which argument, what was expected, what came."""

import dataclasses

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnncells
from rnncells import CELLS, GRU, LSTM, Bidirectional, Elman, ExpRNN, MinGRU, Stack, unroll
from rnncells.initializers import Chrono, Glorot, Orthogonal
from rnncells.tasks import Adding, Copy
from tests.cases import over

T, B, N, H = 5, 4, 3, 8
KEY = jax.random.key(0)
CELL = LSTM(H)
STACK = Stack((MinGRU(H), Bidirectional(GRU(H))))
PARAMS = CELL.init(KEY, N)
XS = jnp.ones((T, B, N))
CARRY = CELL.initial_carry(PARAMS, (B,))
GRU_CARRY = jnp.zeros((B, H))


def run(cell=CELL, params=PARAMS, xs=XS, carry=None, **options):
    return lambda: unroll(cell, params, xs, carry, **options)


BAD = {
    # the cell and its fields
    "features zero": (lambda: LSTM(0), ValueError, "LSTM.features: expected a positive int, got 0"),
    "features negative": (lambda: GRU(-3), ValueError, "GRU.features: .* got -3"),
    "features float": (lambda: Elman(8.0), TypeError, "Elman.features: .* got 8.0"),
    "features bool": (lambda: MinGRU(True), TypeError, "MinGRU.features: .* got True"),
    "features traced": (
        lambda: jax.jit(lambda n: LSTM(n).features)(3),
        TypeError,
        "LSTM.features: .* trace time",
    ),
    "unknown activation": (
        lambda: Elman(8, activation="tan"),
        ValueError,
        "Elman.activation: .*tanh.* got 'tan'",
    ),
    "closure as activation": (
        lambda: Elman(8, activation=lambda x: x),
        TypeError,
        "Elman.activation: expected a name or a module-level function",
    ),
    "flag that is no bool": (
        lambda: GRU(8, reset_after="no"),
        TypeError,
        "GRU.reset_after: expected True or False",
    ),
    "unknown skew scheme": (
        lambda: ExpRNN(8, skew_init="haar"),
        ValueError,
        "ExpRNN.skew_init: .* got 'haar'",
    ),
    "unknown distribution": (
        lambda: Glorot(distribution="cauchy"),
        ValueError,
        "Glorot.distribution: .*'cauchy'",
    ),
    "NaN in a number": (
        lambda: LSTM(8, forget_bias=float("nan")).init(KEY, N),
        ValueError,
        "LSTM.forget_bias: expected finite numbers, got nan",
    ),
    "NaN in an array of numbers": (
        run(LSTM(H, forget_bias=np.array([1.0, np.inf]))),
        ValueError,
        "LSTM.forget_bias: expected finite numbers",
    ),
    "text as a number": (
        lambda: LSTM(8, forget_bias="one").init(KEY, N),
        TypeError,
        "LSTM.forget_bias: .* 'one'",
    ),
    "wrong number of biases": (
        lambda: LSTM(8, forget_bias=jnp.ones(5)).init(KEY, N),
        ValueError,
        "forget_bias: expected a number or 8 of them.*vmap",
    ),
    "chrono range too short": (
        lambda: LSTM(8, forget_bias=Chrono(1.0)).init(KEY, N),
        ValueError,
        "Chrono.t_max: expected at least 2.0, got 1.0",
    ),
    "class as scheme": (
        lambda: LSTM(8, kernel_init=Orthogonal),
        TypeError,
        "LSTM.kernel_init: expected a scheme, such as Orthogonal",
    ),
    # init
    "input size zero": (lambda: CELL.init(KEY, 0), ValueError, "input_size: expected a positive int, got 0"),
    "input size is a shape": (lambda: CELL.init(KEY, (4, 3)), TypeError, "input_size: .* got tuple"),
    "no key": (lambda: CELL.init(0, 3), TypeError, "key: expected one key from jax.random.key, got 0"),
    "two keys": (lambda: CELL.init(jax.random.split(KEY), 3), TypeError, "key: expected one key"),
    "integer dtype": (
        lambda: CELL.init(KEY, 3, jnp.int32),
        TypeError,
        "dtype: expected a real floating dtype",
    ),
    # one tick
    "tick with a wrong input": (
        lambda: CELL(PARAMS, CARRY, jnp.ones((B, N + 1))),
        ValueError,
        "x: expected a last axis of 3",
    ),
    "tick with another cell's carry": (
        lambda: CELL(PARAMS, GRU_CARRY, XS[0]),
        ValueError,
        r"carry: expected LSTMCarry\(cell=float32\[4,8\], hidden=float32\[4,8\]\), got float32\[4,8\]",
    ),
    "tick with integers": (
        lambda: CELL(PARAMS, CARRY, jnp.ones((B, N), int)),
        TypeError,
        "x: expected floating point inputs, got int32.*one-hot",
    ),
    # unroll
    "class instead of instance": (run(LSTM), TypeError, "cell: .*LSTM.*make an instance"),
    "cell of another library": (run(flax.linen.LSTMCell(8)), TypeError, "cell: expected a rnncells cell"),
    "wrong input size": (run(xs=jnp.ones((T, B, N + 1))), ValueError, "params: for xs with 4 features LSTM"),
    "params of another cell": (run(GRU(H)), ValueError, "params: for xs with 3 features GRU.* got"),
    "missing time axis": (run(xs=jnp.ones(N)), ValueError, "xs: expected a time axis.*float32\\[3\\]"),
    "xs is a list": (run(xs=[[1.0, 2.0, 3.0]]), TypeError, "xs: expected arrays"),
    "integer xs": (
        run(xs=jnp.ones((T, B, N), int)),
        TypeError,
        "x: expected floating point inputs, got int32",
    ),
    "carry of another cell": (run(carry=GRU_CARRY), ValueError, "carry: expected LSTMCarry.*, got float32"),
    "carry with a part too few": (run(carry=CARRY[:1]), ValueError, "carry: expected LSTMCarry.*, got tuple"),
    "carry of another batch": (
        run(carry=CELL.initial_carry(PARAMS, (B + 1,))),
        ValueError,
        r"carry: expected .*\[4,8\].*, got .*\[5,8\]",
    ),
    "carry too precise": (
        run(
            params=jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS),
            xs=XS.astype(jnp.bfloat16),
            carry=CARRY,
        ),
        ValueError,
        "carry: expected .*bfloat16.*, got .*float32",
    ),
    "carry of integers": (
        run(carry=jax.tree.map(lambda leaf: leaf.astype(jnp.complex64), CARRY)),
        ValueError,
        "carry: .*complex64",
    ),
    "lengths of the wrong shape": (
        run(lengths=[1, 2]),
        ValueError,
        r"lengths: expected shape \[4\].*int.*\[2\]",
    ),
    "lengths negative": (run(lengths=[1, 2, 3, -1]), ValueError, "lengths: expected values from 0 to 5, got"),
    "lengths too long": (run(lengths=[1, 2, 3, 6]), ValueError, "lengths: expected values from 0 to 5, got"),
    "lengths float": (run(lengths=np.ones(B)), TypeError, "lengths: expected integers, got float64"),
    "lengths bool": (run(lengths=np.ones(B, bool)), TypeError, "lengths: expected integers, got bool"),
    "mask of integers": (run(mask=np.ones((T, B), int)), TypeError, "mask: expected booleans, got int64"),
    "mask batch-major": (
        run(mask=np.ones((B, T), bool)),
        ValueError,
        r"mask: expected shape \[5, 4\].*\[4,5\]",
    ),
    "mask without batch": (run(mask=np.ones(T, bool)), ValueError, r"mask: expected shape \[5, 4\]"),
    "resets as floats": (run(resets=np.ones((T, B))), TypeError, "resets: expected booleans, got float64"),
    "resets too short": (
        run(resets=np.ones((T - 1, B), bool)),
        ValueError,
        r"resets: expected shape \[5, 4\]",
    ),
    "reverse as text": (run(reverse="yes"), TypeError, "reverse: expected True or False, got 'yes'"),
    "key as a number": (run(key=7), TypeError, "key: expected one key"),
    "parallel on a nonlinear cell": (
        run(parallel=True),
        ValueError,
        r"parallel: expected a linear cell, got LSTM\(",
    ),
    "parallel on a nonlinear layer": (
        lambda: unroll(STACK, STACK.init(KEY, N), XS, parallel=True),
        ValueError,
        r"parallel: expected a linear cell in layer_1.forward, got GRU\(",
    ),
    "parallel as text": (run(parallel="auto"), TypeError, "parallel: expected True or False"),
    "remat_every zero": (run(remat_every=0), ValueError, "remat_every: expected a positive int, got 0"),
    "remat_every float": (run(remat_every=2.5), TypeError, "remat_every: expected a positive int"),
    "remat_every bool": (run(remat_every=True), TypeError, "remat_every: expected a positive int"),
    "truncate_every negative": (run(truncate_every=-2), ValueError, "truncate_every: .* got -2"),
    "truncate_every traced": (
        lambda: jax.jit(lambda k: unroll(CELL, PARAMS, XS, truncate_every=k))(2),
        TypeError,
        "truncate_every: expected a positive int known at trace time",
    ),
    "return_carries as number": (run(return_carries=1), TypeError, "return_carries: expected True or False"),
    # Flax modules
    "linen mask time-major": (
        lambda: rnncells.linen.RNN(CELL).init(KEY, jnp.ones((B, T, N)), mask=np.ones((T, B), bool)),
        ValueError,
        "mask: expected shape",
    ),
    # tasks
    "unknown variant": (lambda: Adding(100, "both"), ValueError, "Adding.variant: .*'both'"),
    "too short": (lambda: Adding(10, "original"), ValueError, "Adding.length: expected at least 20, got 10"),
    "length float": (lambda: Copy(1e2), TypeError, "Copy.length: expected a positive int"),
}


@pytest.mark.parametrize(("call", "kind", "words"), BAD.values(), ids=BAD.keys())
def test_bad_input(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


@over({name: kind(H) for name, kind in CELLS.items()})
def test_every_cell_refuses_wrong_inputs_and_carries(cell):
    params, name = cell.init(KEY, N), type(cell).__name__
    wide = jnp.ones((T, B, N + 1))
    if params:
        with pytest.raises(ValueError, match=r"params: for xs with 4 features"):
            unroll(cell, params, wide)
        with pytest.raises(ValueError, match="last axis of 3"):
            cell(params, cell.initial_carry(params, (B,)), wide[0])
    else:  # without parameters, inputs of any size are right
        assert unroll(cell, params, wide)[1].shape == (T, B, cell.output_size)
    with pytest.raises(ValueError, match="carry: expected"):
        unroll(cell, params, XS, cell.initial_carry(params, (B + 1,)))
    for field in dataclasses.fields(cell):
        if "low" in field.metadata:
            broken = dataclasses.replace(cell, **{field.name: float("nan")})
            with pytest.raises(ValueError, match=f"{name}.{field.name}: expected finite"):
                broken.init(KEY, N)
            with pytest.raises(ValueError, match=f"{name}.{field.name}: expected finite"):
                unroll(broken, params, XS)
