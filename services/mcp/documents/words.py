"""The words of a text, for finding what vectors blur: names, codes and numbers."""

from __future__ import annotations

import re
import unicodedata
from itertools import islice

LONGEST = 64
"""Characters of a word that count."""

_SIGN = "[\u3040-\u30ff\u3400-\u9fff]"  # Chinese and Japanese, which have no blanks between words
_WORD = re.compile(rf"{_SIGN}|(?:(?!{_SIGN})[^\W_])+")


def words_of(text: str, *, most: int | None = None) -> list[str]:
    """The different words in their order, without case and accents; `TX-310.b` has three. The first `most` of them."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(character for character in plain if not unicodedata.combining(character))
    found = dict.fromkeys(match[0][:LONGEST] for match in _WORD.finditer(bare))
    return list(islice(found, most))
