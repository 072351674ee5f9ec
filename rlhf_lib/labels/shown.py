"""Model text on the screen: always as text, never as markup, with nothing hidden in it."""

import html
import re
import unicodedata

from rlhf_lib.labels.lexicons import words_of

# Characters that take no space or change the direction, though Unicode does not call them control characters.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe0e\ufe0f\uffa0")
_NAMES = {"\0": "NUL", "\a": "BEL", "\b": "BS", "\v": "VT", "\f": "FF", "\r": "CR", "\x1b": "ESC", "\x7f": "DEL"}
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*[\"'”’)]*|\n")


def is_hidden(character: str) -> bool:
    """Whether a reader would not see this character: control, zero-width, direction marks, private use."""
    if character in "\n\t":
        return False
    return character in _INVISIBLE or unicodedata.category(character) in {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"}


def name_of(character: str) -> str:
    """What stands for a hidden character: ⟨ESC⟩ and its like, else the code point such as ⟨U+200B⟩."""
    return f"⟨{_NAMES.get(character, f'U+{ord(character):04X}')}⟩"


def visible(text: str) -> str:
    """The text with every hidden character made visible; line breaks and tabs stay."""
    return "".join(name_of(character) if is_hidden(character) else character for character in text)


def as_html(text: str) -> str:
    """HTML that shows exactly this text: markup escaped, hidden characters made visible and set apart.

    `<bdi>` keeps right-to-left text from reordering what stands around it.
    """
    pieces = [
        f'<span class="rlhf-hidden" title="U+{ord(character):04X}">{name_of(character)}</span>'
        if is_hidden(character)
        else html.escape(character)
        for character in text
    ]
    return f'<bdi class="rlhf-text">{"".join(pieces)}</bdi>'


def sentences_of(text: str) -> list[str]:
    """The text cut after sentence ends and at line breaks; joined, the pieces are the text again."""
    pieces, end = [], 0
    for match in _SENTENCE.finditer(text):
        pieces.append(text[end : match.end()])
        end = match.end()
    return [*pieces, text[end:]] if end < len(text) else pieces


def matching_sentences(source: str, summary: str, share: float = 0.5) -> list[bool]:
    """For each piece of `sentences_of(source)`: does it hold at least `share` of the words of a sentence of `summary`?

    Only words of four letters and more count, so that "the" and "was" match nothing.
    """
    wanted = [set(filter(_long, words_of(sentence))) for sentence in sentences_of(summary)]
    found = []
    for piece in sentences_of(source):
        words = set(words_of(piece))
        found.append(any(mine and len(mine & words) >= share * len(mine) for mine in wanted))
    return found


def highlighted(source: str, summary: str) -> str:
    """`source` as HTML, the sentences that say what `summary` says marked (for judging whether it is true)."""
    marked = matching_sentences(source, summary)
    pieces = [
        f"<mark>{as_html(piece)}</mark>" if mark else as_html(piece)
        for piece, mark in zip(sentences_of(source), marked, strict=True)
    ]
    return "".join(pieces)


def _long(word: str) -> bool:
    return len(word) >= 4
