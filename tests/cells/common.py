"""What particular tests share: a sequence, parameters, and gates that are fixed open or closed."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.cases import INPUT, random_like, random_params

T, B = 6, 3
CLOSED, OPEN = -60.0, 60.0


def sequence(length=T, seed=2):
    return jax.random.normal(jax.random.key(seed), (length, B, INPUT), jnp.float64)


def params_of(cell, seed=0):
    return random_params(cell, seed, dtype=jnp.float64)


def random_state(cell, params, seed=1):
    return random_like(cell.initial_carry(params, (B,)), seed)


def in_numpy(params):
    """The parameters and the sequence, for formulas written out in NumPy."""
    return jax.tree.map(np.asarray, params), np.asarray(sequence())


def blocks(cell, params, name):
    """What the gates have in a fused parameter, by gate, in NumPy."""
    gates = _fused(cell)[name]
    return dict(zip(gates, np.split(np.asarray(params[name]), len(gates), -1), strict=True))


def _fused(cell):
    """By parameter, the gates that have a block in it."""
    named = {"kernel": cell.input_gates, "bias": cell.biased_gates}
    named["recurrent_kernel"] = getattr(cell, "recurrent_gates", ())
    return {name: cell.gates if gates is None else gates for name, gates in named.items()}


def with_gate(cell, params, gate, value):
    """The parameters with one gate fixed: no weights, and a bias that saturates it."""
    changed = dict(params)
    for name, gates in _fused(cell).items():
        if gate in gates:
            parts = blocks(cell, params, name)
            parts[gate] = np.full_like(parts[gate], value if name == "bias" else 0.0)
            changed[name] = jnp.concatenate(list(parts.values()), -1)
    return changed


def ticks(cell, params, xs=None, carry=None):
    """Tick by tick, which compiles no loop: the states, the first one included, and the outputs."""
    xs = sequence() if xs is None else jnp.asarray(xs)
    weights = cell.prepare(params)
    states = [cell.initial_carry(params, xs.shape[1:-1]) if carry is None else carry]
    ys = []
    for x in xs:
        state, y = cell.tick(weights, states[-1], x)
        states.append(state)
        ys.append(y)
    return states, np.stack(ys)


def outputs(*args, **given):
    return ticks(*args, **given)[1]


def without_recurrence(params):
    return params | {"recurrent_kernel": jnp.zeros_like(params["recurrent_kernel"])}


def assert_close(a, b):
    np.testing.assert_allclose(a, b, atol=1e-10)
