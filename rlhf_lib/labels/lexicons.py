"""Word lists of our own, and the plain counts built on them.

The files beside this one hold one word family a line under `[kind]` headings; they were written for this kit, so
they may be shipped (people's ratings in other lexicons often may not).
"""

import re
from functools import cache
from pathlib import Path

from rlhf_lib.errors import KitError

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")


def words_of(text: str) -> list[str]:
    """Lower-cased words of `text`, punctuation dropped (an inner apostrophe stays)."""
    return _WORD.findall(text.lower().replace("’", "'"))


@cache
def read_families(name: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    """`{kind: families}` of the word list `<name>.txt`; a family is a tuple of inflected forms.

    Raises KitError where no such list exists or a word stands before the first heading.
    """
    path = Path(__file__).with_name(f"{name}.txt")
    if not path.exists():
        raise KitError(f"There is no word list {path.name} beside {__file__}; reinstall the kit.")
    kinds: dict[str, list[tuple[str, ...]]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("["):
            families = kinds.setdefault(line.strip("[] "), [])
        elif line and not line.startswith("#"):
            if not kinds:
                raise KitError(f"{path.name} line {number}: a word before the first [kind] heading; add a heading.")
            families.append(tuple(line.split()))
    return {kind: tuple(families) for kind, families in kinds.items()}


def _flatten(families) -> frozenset[str]:
    return frozenset(word for family in families for word in family)


@cache
def descriptive_words() -> frozenset[str]:
    """The whole list of physically descriptive words."""
    return _flatten(family for families in read_families("descriptive_words").values() for family in families)


@cache
def imagery_words() -> frozenset[str]:
    """Our second list of physically descriptive words, made apart from the first."""
    return _flatten(family for families in read_families("imagery_words").values() for family in families)


@cache
def sentiment_words() -> tuple[frozenset[str], frozenset[str]]:
    """(positive words, negative words) of our second sentiment lexicon."""
    families = read_families("sentiment_words")
    return _flatten(families["positive"]), _flatten(families["negative"])


def count_in(text: str, words: frozenset[str]) -> float:
    """How many words of `text` are in `words`; a plural in -s counts as its singular."""
    return float(sum(word in words or (word.endswith("s") and word[:-1] in words) for word in words_of(text)))
