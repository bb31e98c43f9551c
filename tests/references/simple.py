"""Simple recurrent networks, in NumPy: one literal transcription of the equations each."""

import numpy as np

from tests.references.common import s


def elman(cell, params, h, x):
    h = np.tanh(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"])
    return h, h


def fast_rnn(cell, params, h, x):
    c = np.tanh(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"])
    h = s(params["alpha"]) * c + s(params["beta"]) * h
    return h, h


REFERENCES = {
    "Elman": elman,
    "FastRNN": fast_rnn,
}
