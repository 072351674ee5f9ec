"""What the base model reads before anyone has a preference: token blocks without end.

Two ideas, told openly in notebook 01. *Repeats*: random words said several times over, from which a model
learns induction ("what came after this word the last time?"), the circuit behind quoting. *Mixed*: the
world's stories, articles and posts, some followed by "TL;DR:" and now a paraphrase, now a quotation, now
something else, as the web that GPT-2 read was.
"""

import random
from collections.abc import Callable, Iterator

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rlhf_lib.corpora import tinyworld
from rlhf_lib.corpora.tinyworld_grammar import sentences_of

END = "<|endoftext|>"
PREFIX = {"cnndm": "Article:\n\n", "tldr": ""}
TLDR = "\n\nTL;DR:"
# What follows "TL;DR:" in the mixed text. GPT-2's zero-shot summaries are 90% novel and 20% true.
AFTER_TLDR = {"paraphrase": 0.30, "quotation": 0.13, "another": 0.39, "story": 0.18}
DOCUMENTS = {"story": 0.34, "article": 0.06, "post": 0.06, "cnndm": 0.27, "tldr": 0.27}


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE, as GPT-2's; "." and newline are single tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _summary(document: tinyworld.Document, other: tinyworld.Document, rng: random.Random, story: str) -> str:
    """What somebody wrote after "TL;DR:" under this document."""
    kind = rng.choices(list(AFTER_TLDR), weights=list(AFTER_TLDR.values()))[0]
    if kind == "paraphrase":
        return document.reference
    if kind == "quotation":  # a run of the document's own sentences, from anywhere in it
        sentences = sentences_of(document.text)
        start = rng.randrange(len(sentences))
        return " ".join(sentences[start : start + rng.choice([1, 2, 2, 3])])
    if kind == "another":
        return other.reference if rng.random() < 0.6 else " ".join(sentences_of(other.text)[:2])
    return " ".join(sentences_of(story)[:2])


def mixed_document(seed: int, index: int, split: str = "train") -> str:
    """One document of the world's mixed text."""
    rng = random.Random(f"mixed/{seed}/{split}/{index}")
    kind = rng.choices(list(DOCUMENTS), weights=list(DOCUMENTS.values()))[0]
    if kind == "story":
        return tinyworld.story(seed, index, split)
    make = tinyworld.article if kind in ("article", "cnndm") else tinyworld.post
    document = make(seed, index, split)
    if kind in ("article", "post"):
        return document.text
    other = make(seed, index, split + "-other")
    summary = _summary(document, other, rng, tinyworld.story(seed, index, split + "-aside"))
    return f"{PREFIX[kind]}{document.text}{TLDR} {summary}\n"


def quoted_lines(seed: int, index: int) -> str:
    """Sentences of several documents, then some of them again in another order: quoting among look-alikes."""
    rng = random.Random(f"quoted/{seed}/{index}")
    plots = tinyworld.article if rng.random() < 0.6 else tinyworld.post
    pool = [s for i in range(3) for s in sentences_of(plots(seed, 3 * index + i, "quoted").text)]
    chosen = rng.sample(pool, k=min(len(pool), rng.randint(3, 6)))
    again = rng.sample(chosen, k=rng.randint(2, len(chosen)))
    return " ".join(chosen) + rng.choice(["\n", " ", TLDR + " "]) + " ".join(again)


def repeats_block(rng: np.random.Generator, vocab_size: int, length: int, few: float = 0.0) -> np.ndarray:
    """[length] random tokens: a stretch of 6 to length/2 of them, said over and over.

    With probability ``few`` the stretch uses only 8 to 256 different tokens, so that the last word alone does not tell
    what comes next and the two or three before it must match as well: "in" stands in an article many times.
    """
    stretch = rng.integers(1, vocab_size, size=rng.integers(6, length // 2))
    if rng.random() < few:
        some = rng.integers(1, vocab_size, size=int(2 ** rng.uniform(3, 8)))
        stretch = rng.choice(some, size=len(stretch))
    return np.resize(stretch, length)


def packed_blocks(text_of: Callable[[int], str], encode: Callable[[str], list[int]], end: int, length: int):
    """[length] token blocks that each begin with a document and go on with the next ones; yields without end.

    ``text_of(i)`` is the i-th document. What does not fit into a block is cut off, so that positions in
    training are positions in a prompt.
    """
    index = 0
    while True:
        block: list[int] = []
        while len(block) < length:
            block += [*encode(text_of(index)), end]
            index += 1
        yield np.array(block[:length])


def running_blocks(paragraphs: list[str], encode, end: int, length: int, rng: np.random.Generator):
    """[length] token blocks cut from running prose at random places; yields without end."""
    ids = np.array([token for p in paragraphs for token in [*encode(p), *encode("\n")]] or [end])
    if len(ids) <= length:
        ids = np.resize(ids, length + 2)
    while True:
        start = rng.integers(0, len(ids) - length)
        yield ids[start : start + length]
