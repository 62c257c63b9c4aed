"""Cuts a text into passages that an embedding model reads whole, at the borders that its author has set.

A passage ends with a paragraph if one ends in its second half, else with a sentence. Where it ends inside a paragraph,
the next one repeats its last sentences, so that what belongs together stands together in one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LARGEST = 210
"""Word pieces of a passage by our estimate, which leaves some of MiniLM's 256 for words that are rarer than most."""
OVERLAP = 40
"""Word pieces that two passages of one paragraph have in common, at most."""

_BREAK = re.compile(r"\n\s*\n|\Z")
# A line that goes on in small letters is the same sentence.
_SENTENCE = re.compile(r"\S.*?(?:[.!?…][\"'”’)\]]{0,3}(?=\s)|[。！？]|\n(?!\s*[a-z])|\Z)", re.DOTALL)  # noqa: RUF001 - these end Chinese ones
_TOKEN = re.compile(r"[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]")


@dataclass(frozen=True)
class _Piece:
    """What is not cut any more: a sentence, or a part of one that is too long."""

    start: int
    end: int
    cost: int
    begins: bool
    """Whether a paragraph begins with it."""


def passages_of(text: str) -> list[str]:
    """The passages in their order; together they hold every word of the text."""
    return [text[run[0].start : run[-1].end].strip() for run in _packed(_pieces(text))]


def word_pieces(text: str) -> int:
    """About how many tokens a BERT makes of a text: rather too many than too few."""
    return sum(_cost(match[0]) for match in _TOKEN.finditer(text))


def _packed(pieces: Iterator[_Piece]) -> Iterator[Sequence[_Piece]]:
    run: list[_Piece] = []
    cost = 0
    for piece in pieces:
        if run and piece.begins and cost >= LARGEST // 2:
            yield run
            run, cost = [], 0
        elif run and cost + piece.cost > LARGEST:
            yield run
            run = _repeated(run, min(OVERLAP, LARGEST - piece.cost))
            cost = sum(each.cost for each in run)
        run.append(piece)
        cost += piece.cost
    if run:
        yield run


def _repeated(run: Sequence[_Piece], most: int) -> list[_Piece]:
    """The last pieces of a run that together cost no more than that."""
    kept: list[_Piece] = []
    for piece in reversed(run):
        most -= piece.cost
        if most < 0:
            break
        kept.insert(0, piece)
    return kept


def _pieces(text: str) -> Iterator[_Piece]:
    start = 0
    for paragraph in _BREAK.finditer(text):
        begins = True
        for sentence in _SENTENCE.finditer(text, start, paragraph.start()):
            for begin, end in _parts(text, *sentence.span()):
                yield _Piece(begin, end, word_pieces(text[begin:end]), begins)
                begins = False
        start = paragraph.end()


def _parts(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A sentence, cut between words where it is too long, and inside a word that is too long by itself."""
    begin, last, cost = start, start, 0
    for token in _TOKEN.finditer(text, start, end):
        cost += _cost(token[0])
        if cost > LARGEST and last > begin:
            yield begin, last
            begin, cost = token.start(), _cost(token[0])
        last = token.end()
        while cost > LARGEST:  # one endless word
            yield begin, begin + LARGEST
            begin += LARGEST
            cost -= _cost(token[0][:LARGEST])
    if last > begin:
        yield begin, end


def _cost(token: str) -> int:
    """Long English words are a few pieces, numbers one for two or three digits; all else is one for each character."""
    return -(-len(token) // 4) if token.isalpha() else -(-len(token) // 2)
