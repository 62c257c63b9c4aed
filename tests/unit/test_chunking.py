"""Passages and words of a text: nothing lost, cut where the author paused, small enough for the model to read whole."""

from __future__ import annotations

import random
import re
import time
from itertools import pairwise

import pytest
from tokenizers import Tokenizer

from services.llm.providers.minilm_model import weights_directory
from services.mcp.documents.passages import LARGEST, OVERLAP, passages_of, word_pieces
from services.mcp.documents.words import LONGEST, words_of

READ = 256  # word pieces that MiniLM reads of a text, two of which are its own
ENGLISH = "The quick brown fox jumps over the lazy dog near the riverbank. "


def repeated(part: str, times: int) -> str:
    """The part again and again, each time with another number, so that no two passages are alike."""
    return "".join(f"{number} {part}" for number in range(times))


TEXTS = {
    "English": repeated(ENGLISH, 60),
    "German": repeated("Überschuss an Wärme wird über die Rückkühlanlage abgeführt; die Leitwarte meldet das. ", 40),
    "Russian": repeated("Съешь ещё этих мягких французских булок, да выпей же чаю. ", 60),
    "Chinese": repeated("我们在公园里散步，看见了很多花。", 100),  # noqa: RUF001 - Chinese
    "Arabic": repeated("نحن نعيش في مدينة كبيرة ونعمل كل يوم. ", 60),
    "emoji": repeated("👩‍🚀🚀🌍 ", 200),
    "code": repeated(
        "def load(path: str) -> dict[str, int]:\n    return {key: int(value) for key in rows(path)}\n\n", 40
    ),
    "numbers": repeated("INV-2026-08841; 6,400.00; +49 170 5550123; 2001:db8::17; 0xDEADBEEF\n", 60),
    "one line without a stop": repeated("alpha beta gamma delta ", 400),
    "hard-wrapped": repeated(
        "This is a sentence that goes on\nin the next line and ends\nthere. Another one\nfollows. ", 40
    ),
    "one endless word": "".join(random.Random(1).choices("abcdefghij", k=5000)),
    "one endless number": "".join(str(number) for number in range(1000)),
    "blank": " \n\n\t ",
    "short": "Hello.",
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_str((weights_directory() / "tokenizer.json").read_text())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_the_model_reads_every_passage_to_its_end(text: str, tokenizer: Tokenizer) -> None:
    assert all(len(tokenizer.encode(passage).ids) <= READ for passage in passages_of(text))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_no_character_is_lost_and_none_is_made_up(text: str) -> None:
    position = 0
    for passage in passages_of(text):
        start = text.index(passage)
        assert not text[position:start].strip(), "something between two passages is in neither"
        position = max(position, start + len(passage))
    assert not text[position:].strip()


def test_a_short_text_is_one_passage_and_a_blank_one_is_none() -> None:
    assert passages_of("  One sentence. Another one.\n") == ["One sentence. Another one."]
    assert passages_of(" \r\n\t\n ") == []
    assert passages_of("") == []


def test_passages_end_with_a_sentence_and_the_next_one_repeats_the_last() -> None:
    sentences = [f"Sentence number {number} says something about tea and water." for number in range(60)]
    passages = passages_of(" ".join(sentences))
    assert len(passages) > 3
    assert all(passage.endswith("water.") and passage.startswith("Sentence") for passage in passages)
    for before, after in pairwise(passages):
        common = [each for each in sentences if each in before and each in after]
        assert common
        assert sum(map(word_pieces, common)) <= OVERLAP


def test_a_paragraph_that_fits_stands_alone_and_is_not_repeated() -> None:
    paragraphs = [
        f"Paragraph {number}. " + "It has words that fill about half of a passage. " * 9 for number in range(5)
    ]
    assert passages_of("\n\n".join(paragraphs)) == [paragraph.strip() for paragraph in paragraphs]


def test_a_heading_stays_with_what_follows_it() -> None:
    text = "# Tea\n\nIt is brewed from leaves.\n\n# Coffee\n\nIt is brewed from beans."
    assert passages_of(text) == [text]


def test_lines_that_go_on_in_small_letters_are_one_sentence() -> None:
    filler = "Some words before it.\n" * 30
    passages = passages_of(filler + "A sentence that\nis wrapped in\nthe middle of it.\nNext.")
    assert any("A sentence that\nis wrapped in\nthe middle of it." in passage for passage in passages)


def test_windows_and_unix_line_ends_make_the_same_passages() -> None:
    text = "\n\n".join(f"Paragraph {number}. {ENGLISH * 8}".strip() for number in range(4))
    assert [each.replace("\r\n", "\n") for each in passages_of(text.replace("\n", "\r\n"))] == passages_of(text)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_characters_come_every_word_is_in_a_passage(seed: int, tokenizer: Tokenizer) -> None:
    chance = random.Random(seed)
    text = "".join(chance.choice("abc XYZ 09.,!?\n\n\t-()«»äßç中。…\u200b\u00a0") for _ in range(4000))
    passages = passages_of(text)
    assert all(passage == passage.strip() and passage for passage in passages)
    assert re.sub(r"\s", "", text)[:50] == re.sub(r"\s", "", passages[0])[:50]
    assert all(word_pieces(passage) <= LARGEST for passage in passages)
    assert set("".join(passages)) | set(" \n\t\u00a0") >= set(text)


@pytest.mark.parametrize("part", [ENGLISH, "word ", "\n", " ", "\n ", "a", "1", ".", "?!", "中", "a\n\n", "'\"”) "])
def test_two_million_characters_are_cut_in_seconds(part: str) -> None:
    started = time.perf_counter()
    passages_of((part * (2_000_000 // len(part)))[:2_000_000])
    assert time.perf_counter() - started < 20


def test_words_are_without_case_accents_and_punctuation_and_each_is_there_once() -> None:
    assert words_of("Crème BRÛLÉE, crème-brûlée; TX-310.b Straße") == ["creme", "brulee", "tx", "310", "b", "strasse"]


def test_signs_of_languages_without_blanks_are_words() -> None:
    assert words_of("東京Tower で") == ["東", "京", "tower", "て"]


def test_words_that_never_end_and_too_many_of_them_are_cut() -> None:
    assert words_of("x" * 500) == ["x" * LONGEST]
    assert words_of("one two three", most=2) == ["one", "two"]
    assert words_of("—!?…_") == []
