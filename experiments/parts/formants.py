"""Synthetic speech: syllables of vowels and consonants as frames of a filterbank."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np


class Phone(NamedTuple):
    """A sound: its formants in Hz, how loud they and its hiss are in dB, the middle of the hiss in Hz, and
    how many frames it takes on average."""

    name: str
    formants: tuple[float, float, float]
    voice: float = 0
    hiss: float = -60
    middle: float = 5000
    frames: float = 8


VOWELS = (
    Phone("i", (270, 2290, 3010)),
    Phone("e", (530, 1840, 2480)),
    Phone("a", (730, 1090, 2440)),
    Phone("o", (570, 840, 2410)),
    Phone("u", (300, 870, 2240)),
)
"""Formants of men, after Peterson & Barney 1952, doi 10.1121/1.1906875."""
CONSONANTS = (
    Phone("b", (200, 720, 2300), voice=-35, frames=5),
    Phone("d", (200, 1800, 2600), voice=-35, frames=5),
    Phone("g", (200, 3000, 3100), voice=-35, frames=5),
    Phone("m", (250, 1100, 2200), voice=-10, frames=5),
    Phone("s", (300, 1700, 2600), voice=-30, hiss=-6, middle=6000, frames=5),
    Phone("z", (300, 1700, 2600), voice=-8, hiss=-12, middle=6000, frames=5),
)
"""While b, d and g last there is almost silence: what tells them is where the formants of the vowels beside
them come from and go to (Delattre, Liberman & Cooper 1955, doi 10.1121/1.1908024)."""
PHONES = (Phone("", (500, 1500, 2500), voice=-60, frames=6), *VOWELS, *CONSONANTS)
"""By label; 0 is silence."""
BANDS, FRAME = 24, 0.01
"""Bands of the filterbank, equally wide in mel from 100 to 8000 Hz; seconds from frame to frame."""
SPEEDS, JITTER, SPEAKERS = (0.7, 1.4), (0.7, 1.3), (0.85, 1.18)
"""How much faster an utterance is, how much longer a sound, how much higher all formants of a speaker."""
LOUDNESS = 10.0
"""An input is 1 + dB over this, dB against a vowel."""


class Utterance(NamedTuple):
    """One draw."""

    labels: jax.Array
    """int32 [sounds], 0 after the last."""
    frames: jax.Array
    """float32 [T, BANDS]; 0 after the last."""
    length: jax.Array
    """int32: frames."""
    sounds: jax.Array
    """int32 [T]: which sound is in each frame."""


def ticks(sounds: int) -> int:
    """Frames of the longest utterance of so many sounds."""
    longest = JITTER[1] / SPEEDS[0]
    silence, vowel, consonant = (
        math.ceil(phone.frames * longest) for phone in (PHONES[0], VOWELS[0], CONSONANTS[0])
    )
    return 2 * silence + (sounds + 1) // 2 * vowel + sounds // 2 * consonant


def utterance(key: chex.PRNGKey, least: int, most: int, noise: float) -> Utterance:
    """Vowels and consonants in turns, each kind drawn evenly, with silence before and after. Formants glide
    from sound to sound; speed, speaker and background differ.

    Args:
        key: of the draw.
        least, most: sounds, evenly drawn.
        noise: of the background, in dB against a vowel, on average; from 8 less to 8 more.
    """
    keys = iter(jax.random.split(key, 9))
    number = jax.random.randint(next(keys), (), least, most + 1)
    vowels = jax.random.randint(next(keys), (most,), 1, 1 + len(VOWELS))
    consonants = jax.random.randint(next(keys), (most,), 1 + len(VOWELS), len(PHONES))
    turn = (jnp.arange(most) + jax.random.randint(next(keys), (), 0, 2)) % 2
    there = jnp.arange(most) < number
    labels = jnp.where(there, jnp.where(turn == 0, vowels, consonants), 0)

    # Silence, the sounds, silence: how long, and so which one is in each frame.
    order, counts = jnp.pad(labels, 1), jnp.pad(there, 1, constant_values=True)
    jitter = jax.random.uniform(next(keys), order.shape, minval=JITTER[0], maxval=JITTER[1])
    duration = jnp.array([phone.frames for phone in PHONES])[order] * jitter / ratio(next(keys), SPEEDS)
    ends = jnp.cumsum(jnp.where(counts, jnp.ceil(duration), 0).astype(jnp.int32))
    now = jnp.arange(ticks(most))
    exists = now < ends[-1]
    places = jnp.minimum(jnp.searchsorted(ends, now, side="right"), most + 1)
    sounds = jnp.where(exists, order[places], 0)

    # Silence has the formants of the sound beside it.
    speaker = ratio(next(keys), SPEAKERS)
    tongue = jnp.log(jnp.array([phone.formants for phone in PHONES]))[order[jnp.clip(places, 1, number)]]
    formants = speaker * jnp.exp(averaged(tongue, 7))
    loud = jnp.array([(phone.voice, phone.hiss) for phone in PHONES])[sounds]
    voice, hiss = jnp.split(averaged(loud, 3), 2, -1)
    middle = speaker * jnp.array([phone.middle for phone in PHONES])[sounds][:, None]
    background, speckle = jax.random.split(next(keys))
    powers = 10 ** ((noise + jax.random.uniform(background, minval=-8.0, maxval=8.0)) / 10)
    for fall, formant in zip((0.0, -4.0, -8.0), jnp.split(formants, 3, -1), strict=True):
        powers += peak(voice + fall, formant, 90.0)
    decibels = 10 * jnp.log10(powers + peak(hiss, middle, 300.0))
    decibels += 2.5 * jax.random.normal(speckle, decibels.shape)
    frames = jnp.where(exists[:, None], 1 + decibels / LOUDNESS, 0)
    return Utterance(labels, frames, ends[-1], sounds)


def ratio(key: chex.PRNGKey, span: tuple[float, float]) -> jax.Array:
    """Evenly drawn in its logarithm."""
    return jnp.exp(jax.random.uniform(key, minval=math.log(span[0]), maxval=math.log(span[1])))


def averaged(track: jax.Array, width: int) -> jax.Array:
    """[T, N], each frame the mean of so many around it."""
    padded = jnp.pad(track, ((width // 2, width // 2), (0, 0)), mode="edge")
    return jnp.mean(jnp.stack([padded[i : i + len(track)] for i in range(width)]), 0)


def peak(decibels: jax.Array, hertz: jax.Array, width: float) -> jax.Array:
    """Its power in every band, [T, BANDS]; the width is in mel."""
    return 10 ** (decibels / 10) * jnp.exp(-0.5 * jnp.square((mel(centres()) - mel(hertz)) / width))


def mel(hertz: Any) -> jax.Array:
    """The scale on which steps of pitch sound equal."""
    return 2595 * jnp.log10(1 + jnp.asarray(hertz) / 700)


def centres() -> np.ndarray:
    """Of the bands, in Hz."""
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (100, 8000))
    return (700 * (10 ** (np.linspace(low, high, BANDS) / 2595) - 1)).astype(np.float32)
