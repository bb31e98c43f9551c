"""What a decoder refuses, and in which words."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnncells import LSTM, AttentionDecoder, unroll
from tests.cases import ATTENTIONS, FEATURES, INPUT, B, M, S, T
from tests.traits import Pairs

I, H = INPUT, FEATURES  # noqa: E741
KEY = jax.random.key(0)
CELL = LSTM(H)


class Grid(Pairs):
    """A cell whose inputs are images."""

    input_ndim = 3


MEMORY, XS = jnp.ones((S, B, M)), jnp.ones((T, B, I))
DECODER = AttentionDecoder(CELL, ATTENTIONS["additive"])
PARAMS = DECODER.attend(MEMORY).init(KEY, I)
MISSING = (
    r"memory: expected \[S, \*batch, M\], got None in AttentionDecoder\(cell=LSTM\(features=4.*"
    r"\.attend\(encoder_outputs\)"
)


def decode(decoder=DECODER, memory=MEMORY, lengths=None, xs=XS):
    return lambda: unroll(decoder.attend(memory, lengths), PARAMS, xs)


BAD = {
    "order": (lambda: dataclasses.replace(DECODER, order="both"), ValueError, "'bahdanau' or 'luong', got"),
    "init without memory": (lambda: DECODER.init(KEY, I), ValueError, MISSING),
    "carry without memory": (lambda: DECODER.initial_carry(PARAMS, (B,)), ValueError, MISSING),
    "prepare without memory": (lambda: DECODER.prepare(PARAMS), ValueError, MISSING),
    "unroll without memory": (lambda: unroll(DECODER, PARAMS, XS), ValueError, MISSING),
    "memory of another batch": (
        decode(memory=MEMORY[:, :2]),
        ValueError,
        r"memory: expected batch axes \[3\], those of the inputs, got float32\[5,2,4\]",
    ),
    "memory for a batch of none": (decode(xs=XS[:, 0]), ValueError, r"query: expected axes \[3\] before"),
    "memory of another width": (
        decode(memory=MEMORY[..., :2]),
        ValueError,
        r"params: for xs with 3 features AttentionDecoder\(.*memory=float32\[5,3,2\]",
    ),
    "prepared for another width": (
        lambda: DECODER.attend(MEMORY[..., :2]).prepare(PARAMS),
        ValueError,
        "memory: expected a last axis of 4",
    ),
    "lengths of the decoder": (decode(lengths=np.array([6, 1, 1])), ValueError, "lengths: .* 0 to 5"),
    "lengths set by hand": (
        lambda: unroll(dataclasses.replace(DECODER, memory=MEMORY, lengths=np.array([6, 1, 1])), PARAMS, XS),
        ValueError,
        "lengths: .* 0 to 5",
    ),
    "class as cell": (
        lambda: AttentionDecoder(LSTM, ATTENTIONS["dot"]),
        TypeError,
        "cell: .*make an instance",
    ),
    "cell of pytrees": (
        decode(AttentionDecoder(Grid(H), ATTENTIONS["dot"])),
        ValueError,
        "cell: expected a cell with vector inputs, got Grid",
    ),
    "no attention": (decode(AttentionDecoder(CELL, CELL)), TypeError, "attention: expected an Attention"),
    "integer xs": (decode(xs=XS.astype(int)), TypeError, "x: expected floating point inputs, got int32"),
}


@pytest.mark.parametrize(("call", "kind", "words"), BAD.values(), ids=BAD.keys())
def test_bad_input(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
