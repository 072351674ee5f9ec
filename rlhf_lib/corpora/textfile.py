"""A user's own prose: a text file, or JSONL with a ``text`` field, plain or gzipped."""

import gzip
import json
import re
from pathlib import Path

from rlhf_lib.errors import KitError


def _open(path: Path):
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")


def _rows(path: Path) -> list[str]:
    """The texts of a file: its JSONL rows' ``text``, or the whole of a plain text file."""
    is_jsonl = path.name.removesuffix(".gz").endswith((".jsonl", ".json"))
    with _open(path) as stream:
        if not is_jsonl:
            return [stream.read()]
        texts = []
        for number, line in enumerate(stream, start=1):
            try:
                row = json.loads(line)
                texts.append(row["text"])
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise KitError(f"{path}, line {number}: expected a JSON object with a field 'text'.") from error
            if not isinstance(texts[-1], str):
                raise KitError(f"{path}, line {number}: the field 'text' is not a string.")
        return texts


def read_paragraphs(path: str | Path, min_words: int = 5) -> list[str]:
    """The paragraphs of a corpus file, in order, each on one line, without all-capital headings.

    Raises KitError where the file is missing, not UTF-8, not what its name says, or holds no prose.
    """
    path = Path(path)
    if not path.is_file():
        raise KitError(f"The corpus file {path} does not exist: give CORPUS a text file or a JSONL file with 'text'.")
    try:
        rows = _rows(path)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise KitError(f"The corpus file {path} is not readable UTF-8 text: save it as UTF-8 and try again.") from error
    paragraphs = [" ".join(part.split()) for row in rows for part in re.split(r"\n\s*\n", row)]
    kept = [p for p in paragraphs if len(p.split()) >= min_words and not p.isupper()]
    if not kept:
        raise KitError(f"The corpus file {path} holds no paragraph of {min_words} words or more: check its contents.")
    return kept


def split_paragraphs(paragraphs: list[str], held_out: float = 0.05, runs: int = 20) -> tuple[list[str], list[str]]:
    """Training and held-out paragraphs: every stretch of text gives its last part, so that both hold every book.

    Raises KitError for a single paragraph.
    """
    if len(paragraphs) < 2:
        raise KitError("The corpus has one paragraph and needs two at least, one of them to hold out: give more text.")
    train, test = [], []
    size = max(20, len(paragraphs) // runs)
    for start in range(0, len(paragraphs), size):
        part = paragraphs[start : start + size]
        cut = min(max(1, round(len(part) * (1 - held_out))), max(1, len(part) - 1))
        train += part[:cut]
        test += part[cut:]
    return train, test
