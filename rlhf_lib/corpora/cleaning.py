"""What the original did to its texts before they became queries (original-system.md section 1.3).

The hub's copies are not the original's files: CNN/DailyMail has lost its line breaks there, BookCorpus is written in
small letters with detached punctuation. What that takes to undo stands here too, each time with its reason.
"""

import re

import ftfy

BREAK = "\n\n"  # between the paragraphs of a .story file
GREETINGS = frozenset({"hi", "hello", "hey", "ok", "okay", "so"})  # the post's list for TL;DR

_CNN_DASH = re.compile(r"\(CNN\) +--")
_AND_LINE = re.compile(r"^and \w+\n")
# the original's year was a character class, which matches one digit; the whole year is what was meant
_UPDATED = re.compile(r".*UPDATED:\.?\s+\d{1,2}:\d{2}[^\n]*201\d\.?", re.DOTALL)
_DETACHED = re.compile(r" \.(?= |$)")  # how the hub marks a line that had no full stop: "By . A Name . PUBLISHED: . "
_SENTENCE_END = re.compile(r"(?<=[.!?])([\"'”’)]*) +(?=[\"'“‘(]*[A-Z0-9£$€])")
_ABBREVIATION = re.compile(r"(?:^|[\s(\"'“‘])(?:Mr|Mrs|Ms|Dr|Prof|Sen|Rep|Gov|Gen|Col|Lt|Sgt|Capt|Rev|St|No|vs|"
                           r"[A-Z]|[A-Za-z](?:\.[A-Za-z])+)\.$")  # fmt: skip


def clean_article(text: str) -> str:
    """One CNN/DailyMail article as the original's queries had it, from a .story file or from the hub's one line."""
    text = text.replace("’", "'").replace("‘", "'")
    if "\n" not in text.strip():
        text = story_lines(text)
        begins = re.match(r"By\.?\n", text)  # the by-line alone: "By the time ..." is how an article may begin
    else:
        begins = text.startswith("By")
    if begins:
        text = re.sub(r"\A(?:[^\n]*\n\s*){2}", "", text)
    text = _CNN_DASH.split(text)[-1]
    text = text[:100].split("(CNN)")[-1] + text[100:]
    text = _AND_LINE.sub("", text.lstrip())
    text = _UPDATED.sub("", text, count=1)
    return _tidy(text).split("@highlight")[0].strip()


def story_lines(text: str) -> str:
    """Line breaks for the hub's one-line articles, without which the task could not cut a query at a line's end.

    A detached full stop stands for a line that had none; beyond that each sentence becomes a paragraph, because where
    the story's paragraphs ended is lost.
    """
    lines = []
    for part in _DETACHED.split(text):
        lines += _sentences(part.strip())
    return BREAK.join(line for line in lines if line)


def _sentences(line: str) -> list[str]:
    found, start = [], 0
    for end in _SENTENCE_END.finditer(line):
        if not _ABBREVIATION.search(line[start : end.start()]):
            found.append(line[start : end.end(1)].strip())
            start = end.end()
    return [*found, line[start:].strip()]


def clean_highlights(text: str) -> str:
    """The reference summary on one line, its detached full stops attached."""
    lines = (re.sub(r" ([.!?])$", r"\1", line.strip()) for line in _tidy(text).split("\n"))
    return " ".join(line for line in lines if line)


def clean_post(text: str) -> str:
    """One post: the text alone, mojibake undone, at most one empty line between paragraphs."""
    return _tidy(text).strip()


def post_of_prompt(prompt: str) -> str:
    """The post in "SUBREDDIT: … TITLE: … POST: … TL;DR:"; the original used neither title nor subreddit."""
    body = prompt.split("POST:", 1)[-1]
    return re.sub(r"\s*TL;DR:\s*$", "", body).strip()


def clean_prose(text: str) -> str:
    """Book text; the detached punctuation of BookCorpus on the hub is attached (a query ends with the token ".")."""
    if text.count(" .") > text.count(". ") - text.count(" . "):
        text = text.replace("``", '"').replace("''", '"')
        text = re.sub(r" ([.,;:!?])", r"\1", text)
        text = re.sub(r" ('(?:s|m|d|re|ve|ll)|n't)\b", r"\1", text)
    return " ".join(text.split())


def _tidy(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", ftfy.fix_text(text))


def has_preamble(text: str, task: str) -> bool:
    """Whether a document starts with a preamble by the post's definitions: articles (`cnndm`) a colon in the first
    three words, posts (`tldr`) a greeting as the first word."""
    first = text.split(None, 3)[:3]
    if task == "cnndm":
        return any(":" in word for word in first)
    return bool(GREETINGS.intersection(re.findall(r"[a-z']+", " ".join(first[:1]).lower())[:1]))
