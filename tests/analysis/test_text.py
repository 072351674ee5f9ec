"""Words and sentences: treebank and plain text come out alike, and no input takes long."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_lib.analysis import text


@pytest.mark.parametrize(
    ("plain", "treebank"),
    [
        ("He didn't go. It's “true” (said).", "he did n't go . it 's `` true '' -lrb- said -rrb- ."),
        ("The players' 2,000 fans left.", "The players ' 2,000 fans left ."),
        ("Don’t stop – now!", "do n't stop - now !"),
    ],
)
def test_treebank_text_has_the_same_words(plain, treebank):
    assert text.words(plain) == text.words(treebank)


def test_words_drop_punctuation_and_case():
    assert text.words("U.S. troops, 1,000 of them — “gone”…") == ["u", "s", "troops", "1", "000", "of", "them", "gone"]
    assert text.words("") == text.words("... !") == []


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("Mr. Smith left. He ran!", ["Mr. Smith left.", "He ran!"]),
        ('He said "No." Then he left.', ['He said "No."', "Then he left."]),
        ("one . two . three", ["one .", "two .", "three"]),
        (
            "At 5 p.m. ET it rained. It stopped at 6 p.m. The sun came.",
            ["At 5 p.m. ET it rained.", "It stopped at 6 p.m.", "The sun came."],
        ),
        (
            "The U.S. Navy came. J. K. Rowling wrote it and so did I. We read.",
            ["The U.S. Navy came.", "J. K. Rowling wrote it and so did I.", "We read."],
        ),
        ("wait... what? yes", ["wait... what?", "yes"]),
        ("line one\nline two\n\n", ["line one", "line two"]),
        ("It cost 3.5 dollars. i like it. ok", ["It cost 3.5 dollars.", "i like it.", "ok"]),
        ("", []),
    ],
)
def test_sentences(paragraph, expected):
    assert text.sentences(paragraph) == expected


@given(st.text(alphabet=st.sampled_from("aB1 .!?…\"')\n‘’,"), max_size=200))
def test_sentences_keep_every_word_in_order(paragraph):
    assert [w for s in text.sentences(paragraph) for w in text.words(s)] == text.words(paragraph)
    assert text.sentences(paragraph, 2) == text.sentences(paragraph)[:2]


def test_the_prompts_own_words_are_no_source():
    assert text.source_body("Article:\n\nA fire burned.\n\nTL;DR:", "cnndm") == "A fire burned."
    assert text.source_body("A post.\nTL;DR:", "tldr") == "A post."
    assert text.source_body("LONDON, England (CNN) -- Rain fell.", "cnndm") == "Rain fell."
    assert text.source_body("(CNN)Rain fell.", "cnndm") == "Rain fell."
    assert text.source_body("I saw (CNN) today", "tldr") == "I saw (CNN) today"


def test_lead_is_capped_where_asked():
    body = "One two three. Four five. Six seven. Eight."
    assert text.lead(body) == "One two three.\nFour five.\nSix seven."
    assert text.lead(body, max_words=4) == "One two three.\nFour"


@pytest.mark.parametrize(
    "nasty",
    [
        "." * 200_000 + "x",
        " " * 200_000 + "x",
        "\n" * 200_000,
        ". " * 100_000,
        "'" * 200_000,
        "tl;dr:" * 30_000,
        "a." * 100_000,
    ],
)
def test_no_text_takes_long(nasty):
    start = time.process_time()
    text.sentences(nasty), text.words(nasty), text.source_body(nasty, "cnndm")
    assert time.process_time() - start < 5
