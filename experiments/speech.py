"""Speech without alignment: which sounds are said, when nobody tells at which frame?"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pathlib
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from experiments.harness import command_line, options, processes, run
from experiments.harness.hyperparameters import Optimizer
from experiments.harness.model import Model, ModelFactory
from experiments.harness.standing import shown
from experiments.harness.trained import Trained, load, predict
from experiments.parts import ctc, formants
from experiments.parts.formants import BANDS, FRAME, LOUDNESS, PHONES, VOWELS
from rnncells.tasks import Batch, Task
from rnncells.tasks.base import Mean, mean_of

DRAWN, EXAMPLES = 256, 64
"""Utterances for the baseline and for the picture; of these, kept as a file."""


@dataclasses.dataclass(frozen=True)
class Utterances:
    """The sounds of synthetic speech in their order, as `formants.utterance` draws it, without their times.

    Shapes: inputs float32 [T, B, 24]; targets int32 [B, length], 0 after the last; mask bool [B]; lengths
    int32 [B]. Outputs are logits [T, B, 12], class 0 the blank of CTC.
    """

    length: int = 6
    """Sounds of the longest utterance; the shortest has 3."""
    noise: float = -22.0
    """Background in dB against a vowel, on average."""

    input_size: ClassVar[int] = BANDS
    output_size: ClassVar[int] = len(PHONES)
    score: ClassVar[str] = "label_error_rate"
    fractions: ClassVar[tuple[str, ...]] = ("label_error_rate", "exact")
    naive: ClassVar[str] = "frame by frame"

    def __post_init__(self) -> None:
        if self.length < 3:
            raise ValueError(f"length: expected at least 3 sounds, got {self.length}.")

    def aligned(self, key: chex.PRNGKey, batch_size: int) -> tuple[Batch, jax.Array]:
        """Utterances, and which sound is in each frame, int32 [T, B]."""
        draw = jax.vmap(lambda key: formants.utterance(key, 3, self.length, self.noise))
        said = draw(jax.random.split(key, batch_size))
        batch = Batch(said.frames.swapaxes(0, 1), said.labels, jnp.ones(batch_size, bool), said.length)
        return batch, said.sounds.T

    def sample(self, key: chex.PRNGKey, batch_size: int) -> Batch:
        return self.aligned(key, batch_size)[0]

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        return self._loss(outputs, batch).value

    def _loss(self, outputs: jax.Array, batch: Batch) -> Mean:
        assert batch.lengths is not None
        return mean_of(ctc.losses(outputs, batch.lengths, batch.targets), batch.mask)

    def metrics(self, outputs: jax.Array, batch: Batch) -> dict[str, Mean]:
        """label_error_rate: edits of the best path over the number of labels; exact: utterances without
        any."""
        assert batch.lengths is not None
        errors = ctc.edits(ctc.path(outputs, batch.lengths), batch.targets).astype(jnp.float32)
        labels = jnp.sum(batch.targets > 0, -1).astype(jnp.float32)
        errors, labels = (jnp.where(batch.mask, each, 0) for each in (errors, labels))
        right = (errors == 0).astype(jnp.float32)
        return {
            "label_error_rate": Mean(jnp.sum(errors), jnp.sum(labels)),
            "exact": mean_of(right, batch.mask),
            "loss": self._loss(outputs, batch),
        }

    @property
    def baseline(self) -> float:
        """Of frames named one by one; see `frame_by_frame`."""
        return frame_by_frame(self)

    def solved(self, metrics: dict[str, Any]) -> Any:
        """One label in fifty wrong."""
        return metrics["label_error_rate"] <= 0.02


@functools.partial(jax.jit, static_argnums=(0, 2))
def drawn(task: Utterances, key: chex.PRNGKey, number: int) -> tuple[Batch, jax.Array]:
    """`task.aligned`, compiled."""
    return task.aligned(key, number)


@functools.cache
def frame_by_frame(task: Utterances) -> float:
    """Label error rate of a linear classifier of single frames that, unlike the model, was told which sound
    is in each; its log-probabilities averaged over a few frames, the best number of them."""
    (batch, sounds), (other, _) = (drawn(task, jax.random.key(2**31 + i), DRAWN) for i in (2, 3))
    exists = np.asarray(ctc.existing(batch.lengths, len(sounds)))
    frames, names = np.asarray(batch.inputs)[exists], np.asarray(sounds)[exists]
    classifier = LinearDiscriminantAnalysis().fit(frames, names)
    logs = classifier.predict_log_proba(np.asarray(other.inputs).reshape(-1, BANDS))
    each = logs.reshape(*sounds.shape, -1).astype(np.float32)
    errors = jax.jit(lambda logits: jnp.sum(ctc.edits(ctc.path(logits, other.lengths), other.targets)))
    wrong = []
    for width in (1, 3, 5, 7):
        padded = np.pad(each, ((width // 2, width // 2), (0, 0), (0, 0)), "edge")
        wrong.append(int(errors(sliding_window_view(padded, width, 0).mean(-1))))
    return min(wrong) / int(jnp.sum(other.targets > 0))


class Labeller(Model):
    """The default model; frames past the end of an utterance say the blank."""

    def __call__(
        self,
        inputs: jax.Array,
        carry: Any = None,
        *,
        lengths: jax.Array | None = None,
        resets: jax.Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Any, jax.Array]:
        options: dict[str, Any] = {"lengths": lengths, "resets": resets, "deterministic": deterministic}
        carry, logits = super().__call__(inputs, carry, **options)
        if lengths is None:
            return carry, logits
        blank = 30.0 * jax.nn.one_hot(0, logits.shape[-1], dtype=logits.dtype)
        return carry, jnp.where(ctc.existing(lengths, len(inputs))[..., None], logits, blank)


@dataclasses.dataclass(frozen=True)
class Config(options.Config):
    """Names the sounds of synthetic speech in their order, learned from names without times (CTC).

    Compared with the naming of single frames. The folder `out` gets the picture speech.png, and examples.npz
    for `python -m experiments.predict`.
    """

    features: int | tuple[int, ...] = 64
    """Width of the state; several numbers are the widths of several layers."""
    length: int = 6
    """Sounds of the longest utterance."""
    noise: float = -22.0
    """Background in dB against a vowel, on average."""
    optimizer: Optimizer = dataclasses.field(
        default_factory=lambda: Optimizer(learning_rate=5e-3, schedule="cosine")
    )
    training: options.Training = dataclasses.field(
        default_factory=lambda: options.Training(updates=1500, batch_size=32, report_every=100, seeds=1)
    )
    out: pathlib.Path = pathlib.Path("runs/speech")
    """Where everything is written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling != "every":
            raise ValueError(f"pooling: expected every, a label may be in any frame, got {self.pooling!r}.")

    def task(self) -> Utterances:
        return Utterances(self.length, self.noise)

    def model(self, task: Task) -> ModelFactory:
        super().model(task)  # refuses what does not fit
        return Labeller

    def said(self, outputs: np.ndarray, task: Task) -> list[dict[str, Any]]:
        return [{"sequence": i, "sounds": words} for i, words in enumerate(heard(outputs))]


def spelled(labels: np.ndarray) -> str:
    return " ".join(PHONES[label].name for label in labels if label)


def heard(outputs: np.ndarray) -> list[str]:
    """The sounds of outputs [N, T, O] of a `Labeller`."""
    number, ticks = outputs.shape[:2]
    labels = ctc.path(jnp.swapaxes(outputs, 0, 1), jnp.full(number, ticks))
    return [spelled(row) for row in np.asarray(labels).T]


def main(config: Config) -> None:
    processes.use_every_core()
    if run.main("speech", config):
        show(load(config.out), config)


def show(best: Trained, config: Config) -> None:
    """examples.npz; and speech.png, of a slow and a fast utterance among them."""
    batch, sounds = drawn(config.task(), jax.random.key(2**31 + 4), DRAWN)
    inputs, lengths = np.asarray(batch.inputs).swapaxes(0, 1), np.asarray(batch.lengths)
    np.savez(config.out / "examples.npz", inputs=inputs[:EXAMPLES], lengths=lengths[:EXAMPLES])
    outputs, number = predict(best, inputs, lengths), np.count_nonzero(batch.targets, 1)
    pace = np.where(number == number.max(), lengths / number, np.nan)
    chosen = {"slow": int(np.nanargmax(pace)), "fast": int(np.nanargmin(pace))}
    figure, panels = plt.subplots(2, 2, figsize=(11.5, 5.6), layout="constrained", height_ratios=(1, 1.3))
    for i, (upper, lower), name in zip(chosen.values(), panels.T, chosen, strict=True):
        said, words = spelled(np.asarray(batch.targets)[i]), heard(outputs[i : i + 1])[0]
        upper.set_title(f"{name}: said {said}, heard {words}", fontsize=10)
        spikes(upper, outputs[i, : lengths[i]])
        shade = spectrogram(lower, inputs[i, : lengths[i]], np.asarray(sounds)[: lengths[i], i])
    panels[0, 0].set(ylabel="probability of a label")
    lines = [Line2D([], [], color=colour) for colour in ("C0", "C1", "0.75")]
    names = ["vowel", "consonant", "blank"]
    figure.legend(lines, names, loc="outside lower center", ncols=3, frameon=False)
    panels[1, 0].set(ylabel="frequency (Hz)")
    figure.colorbar(shade, ax=panels[1], label="dB", pad=0.01)
    task = best.task
    own, naive = (shown(task, task.score, score) for score in (best.test[task.score], task.baseline))
    title = f"Sounds named without their times: label error rate of {best.cell} {own}, frame by frame {naive}"
    figure.suptitle(title, fontsize=11)
    figure.savefig(config.out / "speech.png", dpi=150)
    plt.close(figure)


def spikes(axes: Any, outputs: np.ndarray) -> None:
    """How sure the model is of each label, [T, O]; named where each label that it says is surest."""
    sure, ticks = np.asarray(jax.nn.softmax(outputs, -1)), len(outputs)
    colours = ["0.75", *("C0" if label <= len(VOWELS) else "C1" for label in range(1, sure.shape[1]))]
    for label, colour in enumerate(colours):
        axes.plot(FRAME * np.arange(ticks), sure[:, label], color=colour, lw=1.6 if label else 1)
    begun = np.asarray(ctc.path(jnp.asarray(outputs)[:, None], jnp.array([ticks])))[:, 0]
    for tick in np.flatnonzero(begun):
        label, end = begun[tick], tick
        while end < ticks and sure[end].argmax() == label:
            end += 1
        middle = FRAME * (tick + sure[tick:end, label].argmax())
        axes.annotate(
            PHONES[label].name, (middle, 1.04), ha="center", color=colours[label], weight="bold", fontsize=11
        )
    axes.set(ylim=(0, 1.22), yticks=(0, 0.5, 1), xlim=FRAME * np.array([-0.5, ticks - 0.5]), xticklabels=())
    axes.spines[["top", "right"]].set_visible(False)


def spectrogram(axes: Any, frames: np.ndarray, sounds: np.ndarray) -> Any:
    """Frames [T, BANDS] and what is said in them."""
    decibels, ticks = LOUDNESS * (frames.T - 1), len(frames)
    extent = (-0.5 * FRAME, FRAME * (ticks - 0.5), -0.5, BANDS - 0.5)
    colours: dict[str, Any] = {"cmap": "magma", "vmin": -30, "vmax": 5}
    shade = axes.imshow(decibels, origin="lower", aspect="auto", extent=extent, **colours)
    starts = np.array([0, *(np.flatnonzero(np.diff(sounds)) + 1), ticks])
    words: dict[str, Any] = {"ha": "center", "color": "white", "weight": "bold", "fontsize": 11}
    for start, end in itertools.pairwise(starts):
        axes.axvline(FRAME * (start - 0.5), color="white", lw=0.8, alpha=0.7)
        axes.annotate(PHONES[sounds[start]].name, (FRAME * (start + end - 1) / 2, BANDS - 2.2), **words)
    hertz = [250, 500, 1000, 2000, 4000]
    axes.set(xlabel="seconds", yticks=np.interp(hertz, formants.centres(), range(BANDS)), yticklabels=hertz)
    return shade


if __name__ == "__main__":
    main(command_line.config_of(Config))
