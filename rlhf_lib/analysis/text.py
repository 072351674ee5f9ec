"""Words and sentences as every analysis counts them, so that one rule stands behind all numbers.

Texts come from several worlds: raw news, text tokenised in the Penn Treebank way ("do n't", detached full stops, as
the hub's highlights have them) and posts without capitals. `words` makes them alike: NFKC, straight quotes, lower case,
treebank clitics re-attached, punctuation dropped. Two texts are "the same" when their words are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

_TREEBANK = {"``": '"', "''": '"', "-lrb-": "(", "-rrb-": ")", "-LRB-": "(", "-RRB-": ")"}
_QUOTES = str.maketrans({"‘": "'", "’": "'", "‛": "'", "ʼ": "'", "“": '"', "”": '"', "´": "'"})
_CLITIC = re.compile(r" ('(?:s|m|d|re|ve|ll)|n't)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

# A full stop after these does not end a sentence. Single letters and "U.S."-like initialisms are found by shape.
_ABBREVIATIONS = frozenset(
    {
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "sen",
        "rep",
        "gov",
        "gen",
        "col",
        "lt",
        "sgt",
        "capt",
        "cmdr",
        "rev",
        "hon",
        "st",
        "jr",
        "sr",
        "vs",
        "etc",
        "fig",
        "no",
        "inc",
        "corp",
        "ltd",
        "co",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "nov",
        "dec",
        "approx",
        "dept",
        "est",
        "e.g",
        "i.e",
    }
)
_INITIALISM = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]$")
# An end: . ! or ? (several, or an ellipsis), then closing quotes or brackets, then white space or the text's end.
_END = re.compile(r"""(?<![.!?…])(?P<mark>[.!?…]++)(?P<close>["')\]]*+)(?=\s|$)""")
_NEXT_WORD = re.compile(r"\s*(?P<word>\S*)")

_PREFIX = re.compile(r"article:", re.IGNORECASE)
_SUFFIX = re.compile(r"tl;dr:?$", re.IGNORECASE)
# The original's CNN cleaning: drop all up to "(CNN) --", or a "(CNN)" in the first 100 characters.
_DATELINE = re.compile(r"^.{0,100}?\(CNN[^)]{0,40}\)\s*(?:--|–|—|-)?\s*", re.DOTALL)


def tidy(text: str) -> str:
    """NFKC, straight quotes, treebank brackets undone, treebank clitics re-attached ("do n't" -> "don't")."""
    if not text.isascii():  # plain text, nearly all of it, is spared the slow part
        text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    for mark, plain in _TREEBANK.items():
        text = text.replace(mark, plain)
    text = text.replace("`", "'")
    return _CLITIC.sub(r"\1", text) if " '" in text or " n't" in text else text


def words(text: str) -> list[str]:
    """Lower-case words of a text without punctuation; numbers are words, "1,000" is two."""
    return _WORD.findall(tidy(text).lower())


def sentences(text: str, limit: int | None = None) -> list[str]:
    """Sentences of a text: cut at line ends and after . ! ? (with closing quotes), not after an abbreviation.

    A detached full stop always ends a sentence; an ellipsis before a small letter does not. What is left without an
    end mark (a cut summary) is a sentence too. `limit`: stop after so many.
    """
    return list(islice((s for line in tidy(text).splitlines() for s in _sentences_of_line(line)), limit))


def _sentences_of_line(line: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(line):
        if _ends_sentence(line, start, end):
            yield line[start : end.end()].strip()
            start = end.end()
    if line[start:].strip():
        yield line[start:].strip()


def _ends_sentence(line: str, start: int, end: re.Match) -> bool:
    """Whether this mark ends the sentence that begins at `start`, by the word before and the word after it."""
    following = _NEXT_WORD.match(line, end.end())["word"]
    if end["mark"] in ("…", "...", "..") and following[:1].islower():
        return False
    if end["mark"] != "." or end["close"]:
        return True
    if end.start() > start and line[end.start() - 1].isspace():  # a detached full stop
        return True
    word = next(iter(line[start : end.start()].rsplit(None, 1)[-1:]), "").lstrip("\"'([").lower()
    if word in ("a.m", "p.m"):  # "at 5 p.m. The ship" ends, "5 p.m. ET" and "5 p.m. local time" do not
        return following[:1].isupper() and not (len(following) > 1 and following.strip(").,").isupper())
    return not (word in _ABBREVIATIONS or (word != "i" and _INITIALISM.fullmatch(word)))


def counted_sentences(text: str, at_least: int = 3) -> list[list[str]]:
    """Words of each sentence of a text that has at least so many words."""
    return [w for w in map(words, sentences(text)) if len(w) >= at_least]


def source_body(query: str, task: str | None = None) -> str:
    """What a summary can copy from: the query without the prompt's own words ("Article:", "TL;DR:").

    For articles the outlet's dateline goes too, as in the original's cleaning: "LONDON, England (CNN) -- ".
    """
    body = query.strip()
    if prefix := _PREFIX.match(body):
        body = body[prefix.end() :].lstrip()
    body = _SUFFIX.sub("", body).rstrip()
    return _DATELINE.sub("", body, count=1) if task and is_article_task(task) else body


@lru_cache(maxsize=32)
def source_words(query: str, task: str) -> tuple[str, ...]:
    """Words of `source_body`; rows of one query that stand beside one another share the work."""
    return tuple(words(source_body(query, task)))


def is_article_task(task: str) -> bool:
    """Whether a task's name says CNN/DM-like articles."""
    return any(name in task.lower() for name in ("cnn", "dailymail", "daily_mail", "article", "news"))


def is_post_task(task: str) -> bool:
    """Whether a task's name says TL;DR-like posts."""
    return any(name in task.lower() for name in ("tldr", "tl;dr", "reddit", "post"))


def lead(body: str, count: int = 3, max_words: int | None = None) -> str:
    """The first sentences of a text (lead-3), a line each, cut to `max_words` white-space words where given."""
    kept, left = [], max_words
    for sentence in sentences(body, count):
        pieces = sentence.split() if left is None else sentence.split()[:left]
        if not pieces:
            break
        kept.append(" ".join(pieces))
        left = None if left is None else left - len(pieces)
    return "\n".join(kept)
