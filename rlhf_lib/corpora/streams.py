"""Where a task's texts come from: the embedded world, the user's own prose, or data sets in the hub's schemas."""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rlhf_lib.corpora import hub, textfile, tinyworld

PASSAGE_WORDS = 140  # enough for a query of 64 tokens after its first full stop, in any tokenizer of ours


def prose_passages(corpus: str | Path, split: str, seed: int = 0) -> Iterator[str]:
    """Passages of a user's file without end: paragraphs from random places; ``test`` shares none with ``train``."""
    train, test = textfile.split_paragraphs(textfile.read_paragraphs(corpus))
    paragraphs = train if split == "train" else test
    rng = random.Random(f"passages/{split}/{seed}")
    while True:
        start, words = rng.randrange(len(paragraphs)), []
        for paragraph in paragraphs[start:]:
            words += paragraph.split()
            if len(words) >= PASSAGE_WORDS:
                break
        yield " ".join(words[: 2 * PASSAGE_WORDS])


def style_texts(corpus: str | Path = "", split: str = "train", seed: int = 0) -> Iterator[str]:
    """Texts without end for the style tasks: the world's stories, or passages of ``corpus``.

    corpus: empty for the embedded world, a text or JSONL file, a folder in the hub's format, or "hub".
    """
    if not corpus:
        return tinyworld.stories(seed, split)
    if hub.is_hub_format(corpus):
        return hub.passages(corpus, split, PASSAGE_WORDS, seed)
    return prose_passages(corpus, split, seed)


def summary_documents(
    task: str, split: str = "train", seed: int = 0, limit: int | None = None, corpus: str | Path = ""
) -> list[tinyworld.Document]:
    """The first ``limit`` articles (cnndm) or posts (tldr) of the embedded world, or of ``corpus`` (see
    `style_texts`; a file must be Parquet or JSONL with the set's columns). Real text has no ``facts``: None."""
    if corpus:
        return hub.first_documents(task, corpus, split, seed, limit)
    return list(islice(tinyworld.documents(task, seed, split), limit))
