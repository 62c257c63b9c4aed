"""README.md and docs/ as tests read them: blocks of code, words in backticks, links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language (empty for a picture) and what it says."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """The blocks of all documents, in their order, of these languages."""
    return [each for path in DOCUMENTS for each in _blocks(path) if not languages or each.language in languages]


def outputs() -> dict[Block, Block]:
    """Each `json` or `text` block that stands after the commands or the script that print it."""
    return {
        asked: shown
        for path in DOCUMENTS
        for asked, shown in pairwise(_blocks(path))
        if asked.language in ("sh", "python", "js") and shown.language in ("json", "text")
    }


def words() -> list[tuple[str, str]]:
    """What stands in backticks in the prose, each with its document."""
    return [(_name(path), word) for path in DOCUMENTS for word in re.findall(r"`([^`\n]+)`", _prose(path))]


def links() -> list[tuple[Path, str]]:
    """What the documents link to, without what is on the web."""
    found = [(path, target) for path in DOCUMENTS for target in re.findall(r"\]\(([^)\s]+)\)", _prose(path))]
    return [(path, target.partition("#")[0]) for path, target in found if not target.startswith("https://")]


def rows(document: str, *, columns: int) -> list[tuple[str, ...]]:
    """The rows of the tables of a document that have that many columns, headings included, without backticks."""
    found = [line.strip("| ").split(" | ") for line in (ROOT / document).read_text().splitlines() if line[:1] == "|"]
    return [tuple(cell.strip("`") for cell in row) for row in found if len(row) == columns]


def _blocks(path: Path) -> list[Block]:
    text = path.read_text()
    return [Block(_name(path), text.count("\n", 0, each.start()) + 1, *each.groups()) for each in _FENCE.finditer(text)]


def _prose(path: Path) -> str:
    return _FENCE.sub("", path.read_text())


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))
