"""Novelty against hand counts and a brute-force oracle."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_lib.analysis import novelty, text
from rlhf_lib.samples import samples_frame

SOURCE = "The cat sat on the mat. The dog ran home."


def row(response, model="m", query=SOURCE, task="cnndm", **more):
    return {"task": task, "model": model, "query": query, "response": response} | more


def test_by_hand():
    novel, total = novelty.novel_units(text.words(SOURCE), "The cat sat on the mat . A dog ran home. Oh no.")
    assert total.tolist() == [12, 11, 10, 9, 2]  # "Oh no" has 2 words: not counted as a sentence
    # new: words a, oh, no; bigrams "mat a", "a dog", "home oh", "oh no"; five trigrams, six 4-grams
    assert novel.tolist() == [3, 4, 5, 6, 1]


words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=12)


@given(words, words)
def test_ngrams_against_brute_force(source, summary):
    novel, total = novelty.novel_units(source, " ".join(summary))
    for n in range(1, 5):
        grams = [summary[i : i + n] for i in range(len(summary) - n + 1)]
        there = [source[i : i + n] for i in range(len(source) - n + 1)]
        assert (novel[n - 1], total[n - 1]) == (sum(g not in there for g in grams), len(grams))


def test_sentence_must_stand_as_whole_words():
    source = text.words("He sat on the matter today")
    assert novelty.novel_units(source, "on the matt")[0][4] == 1
    assert novelty.novel_units(source, "on the matter")[0][4] == 0


def test_micro_pools_and_macro_averages():
    frame = samples_frame([row("The cat sat."), row("New words here. More new words. Other new words.")])
    counts = novelty.count_novel(frame)
    micro, macro = (
        novelty.novelty_table(counts, average).set_index("unit").loc["sentence"] for average in ("micro", "macro")
    )
    assert micro["novelty"] == pytest.approx(3 / 4) and macro["novelty"] == pytest.approx(1 / 2)
    assert micro["units"] == 4 and micro["summaries"] == 2
    assert micro["low"] <= micro["novelty"] <= micro["high"]


def test_nothing_counted_is_nan():
    table = novelty.novelty_table(novelty.count_novel(samples_frame([row(""), row("Ok.")]))).set_index("unit")
    assert math.isnan(table.loc["sentence", "novelty"]) and math.isnan(table.loc["2-gram", "novelty"])
    assert table.loc["1-gram", "novelty"] == 1.0


def test_the_truncated_response_counts_and_the_prompt_does_not():
    frame = samples_frame(
        [
            row(
                "The cat sat on. Junk words follow here",
                response_truncated="The cat sat on.",
                query=f"Article:\n\n{SOURCE}\n\nTL;DR:",
            )
        ]
    )
    assert novelty.count_novel(frame)["novel"][0].tolist() == [0, 0, 0, 0, 0]
    copied = samples_frame([row("tl dr article", query=f"Article:\n\n{SOURCE}\n\nTL;DR:")])
    assert novelty.count_novel(copied)["novel"][0][0] == 3


def test_published_numbers_stand_beside_the_posts_models():
    rows = [row("a b c.", model=m, task=t) for m in ("fine-tuned", "mine") for t in ("cnndm", "tldr", "xsum")]
    table = novelty.novelty_table(novelty.count_novel(samples_frame(rows)))
    of = table[table["unit"] == "sentence"].set_index(["model", "task"])["published"]
    assert of["fine-tuned", "cnndm"] == 0.025 and of["fine-tuned", "tldr"] == 0.29
    assert np.isnan([of["fine-tuned", "xsum"], of["mine", "cnndm"]]).all()


def test_difference_is_paired_by_query():
    queries = [f"{SOURCE} Number {i}." for i in range(60)]
    rows = [row("The cat sat on the mat.", "copier", q) for q in queries]
    rows += [row("All new words here." if i % 2 else "The dog ran home.", "half", q) for i, q in enumerate(queries)]
    counts = novelty.count_novel(samples_frame(rows))
    value, low, high = novelty.novelty_difference(counts, "cnndm", "half", "copier")
    assert value == pytest.approx(0.5) and 0.3 < low < 0.5 < high < 0.7
    assert math.isnan(novelty.novelty_difference(counts, "cnndm", "half", "nobody").value)
