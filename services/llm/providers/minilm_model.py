"""all-MiniLM-L6-v2 in numpy: token ids in, unit vectors out, the numbers of the original to 1e-5.

The weights stay in the file and are mapped, so that worker processes share one copy and rows of the vocabulary that no
text uses take no memory. Texts of a batch are laid end to end instead of padded: nothing is computed for padding.
Importing this module imports numpy and tokenizers (about 25 MB), so only `minilm.py` does it, on first use.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Floats = NDArray[np.float32]

MAX_TOKENS = 256
MAX_CHARACTERS = 32 * 1024
"""What of a text is looked at: 254 word pieces end far earlier unless the text is nearly all white space."""

_LAYERS, _HEADS, _HEAD_WIDTH = 6, 12, 32
_EPSILON = np.float32(1e-12)


class MiniLm:
    """The loaded model. One thread at a time."""

    def __init__(self, directory: Path) -> None:
        """Map the weights and read the tokenizer of `directory`; raises `OSError` when a file is missing."""
        self._weights = _mapped(directory / "model.safetensors")
        self._tokenizer = Tokenizer.from_str((directory / "tokenizer.json").read_text())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def tokens(self, text: str) -> list[int]:
        """The word pieces the model reads of `text`, at most `MAX_TOKENS` with the two markers around them."""
        ids: list[int] = self._tokenizer.encode(text[:MAX_CHARACTERS]).ids
        return ids

    def vectors(self, texts: Sequence[Sequence[int]]) -> Floats:
        """One row of length 1 for each tokenized text."""
        lengths = np.array([len(text) for text in texts])
        starts = np.cumsum(lengths) - lengths
        spans = [slice(start, start + length) for start, length in zip(starts, lengths, strict=True)]
        states = self._embedded(np.concatenate([np.asarray(text) for text in texts]), starts, lengths)
        for layer in range(_LAYERS):
            states = self._layer(f"encoder.layer.{layer}", states, spans)
        means = np.add.reduceat(states, starts) / lengths[:, None].astype(np.float32)
        return unit(means)

    def _embedded(self, ids: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Floats:
        positions = np.arange(len(ids)) - np.repeat(starts, lengths)
        states: Floats = self._weights["embeddings.word_embeddings.weight"][ids]
        states += self._weights["embeddings.position_embeddings.weight"][positions]
        states += self._weights["embeddings.token_type_embeddings.weight"][0]
        return self._normalised("embeddings.LayerNorm", states)

    def _layer(self, name: str, states: Floats, spans: list[slice]) -> Floats:
        attended = self._linear(f"{name}.attention.output.dense", self._attention(f"{name}.attention.self", states, spans))
        states = self._normalised(f"{name}.attention.output.LayerNorm", attended + states)
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
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _EPSILON)


def _heads(states: Floats) -> Floats:
    return states.reshape(-1, _HEADS, _HEAD_WIDTH).transpose(1, 0, 2)


def _softmax(scores: Floats) -> Floats:
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _gelu(x: Floats) -> Floats:
    """x times the normal distribution's integral, whose erf is Abramowitz and Stegun 7.1.26 (off by at most 1.5e-7)."""
    z = np.abs(x)
    z *= np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    tail = np.float32(1.061405429) * t
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail += np.float32(coefficient)
        tail *= t
    np.square(z, out=z)
    np.negative(z, out=z)
    np.exp(z, out=z)
    tail *= z
    tail *= np.float32(0.5)
    tail *= np.abs(x)
    return np.maximum(x, 0) - tail


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
