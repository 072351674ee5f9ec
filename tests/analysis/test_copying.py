"""The alignment against a quadratic oracle, the post's definitions of copying and preamble, and speed."""

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_lib.analysis import copying
from rlhf_lib.samples import samples_frame


def lcs_length(a, b):
    """Plain dynamic program, O(len(a) · len(b))."""
    before = [0] * (len(b) + 1)
    for x in a:
        row = [0]
        for j, y in enumerate(b, 1):
            row.append(before[j - 1] + 1 if x == y else max(before[j], row[-1]))
        before = row
    return before[-1]


def is_subsequence(needle, hay):
    rest = iter(hay)
    return all(x in rest for x in needle)


def random_words(random, n, vocabulary):
    return [f"w{i}" for i in random.integers(0, vocabulary, n)]


few = st.lists(st.sampled_from("abc"), max_size=40)


@given(few, few)
def test_alignment_equals_the_oracle(source, summary):
    check_alignment(source, summary)


@pytest.mark.parametrize("seed", range(6))
def test_alignment_equals_the_oracle_beyond_one_machine_word(seed):
    random = np.random.default_rng(seed)
    check_alignment(random_words(random, 400, 12), random_words(random, 150, 12))


def check_alignment(source, summary):
    first, second = copying.coded_bigrams(source, summary)
    grams = [list(pairwise(side)) for side in (source, summary)]
    places = copying.lcs_positions(first, second)
    assert len(places) == lcs_length(*grams)
    assert places == sorted(set(places)) and all(0 <= p < len(first) for p in places)
    assert is_subsequence([grams[0][p] for p in places], grams[1])
    assert [len(first), len(second)] == [len(g) for g in grams]


def test_positions_are_those_of_the_source():
    frame = samples_frame([{"task": "tldr", "model": "m", "query": "a b c d e f g", "response": "c d e. x y"}])
    row = copying.copy_positions(frame).iloc[0]
    assert row["positions"] == [2, 3] and row["source_length"] == 6 and row["summary_length"] == 4


def test_density_is_one_where_copies_fall_evenly_and_nan_without_copies():
    frame = samples_frame(
        [
            {"task": "tldr", "model": "all", "query": "a b c d e f g h i", "response": "a b c d e f g h i"},
            {"task": "tldr", "model": "none", "query": "a b c", "response": "x y z"},
        ]
    )
    density = copying.copy_density(copying.copy_positions(frame), bins=4)
    assert density[density["model"] == "all"]["density"].tolist() == [1, 1, 1, 1]
    assert density[density["model"] == "none"]["density"].isna().all()
    share = copying.copied_share(copying.copy_positions(frame)).set_index("model")["share"]
    assert share["all"] == 1 and share["none"] == 0


@pytest.mark.parametrize(
    ("source", "summary", "copies"),
    [
        ("The old mill burned down today. Nobody died.", "The old mill burned down today. Nobody died.", True),
        ("The old mill burned down today.", "the old mill burned down today", True),
        ("The old mill burned down today.", "The old mill burned down", True),
        ("The old mill burned.", "The old mill burned.", False),  # four words
        ("Nobody died. The old mill burned down today.", "The old mill burned down today.", False),
        ("The old mill burned down today.", "The old mill burned up today.", False),
        ("Mr. Hill's mill burned down.", "Mr. Hill 's mill burned down .", True),
        ("The old mill burned down today.", "", False),
    ],
)
def test_copies_start(source, summary, copies):
    assert copying.copies_start(source, summary) is copies


@pytest.mark.parametrize(
    ("query", "task", "preamble"),
    [
        ("Hey guys, so it goes", "tldr", True),
        ("Okay. I", "tldr", True),
        ("HELLO", "tldr", True),
        ("Sooner or later", "tldr", False),
        ("I said hi", "tldr", False),
        ("", "tldr", False),
        ("By: Jane Doe. A fire", "cnndm", True),
        ("Photo of day: rain", "cnndm", True),
        ("Photo of the day: rain", "cnndm", False),
        ("Article:\n\nRain fell today", "cnndm", False),
        ("By: Jane", "my-own-task", None),
    ],
)
def test_preamble_by_the_posts_definitions(query, task, preamble):
    assert copying.has_preamble(query, task) is preamble


def test_table_of_copies_uses_the_rows_own_preamble_first():
    source, copy = "The old mill burned down today.", "The old mill burned down today."
    rows = [
        {"task": "cnndm", "query": source, "response": copy, "starts_with_preamble": None},
        {"task": "cnndm", "query": source, "response": copy, "starts_with_preamble": True},
        {"task": "cnndm", "query": source, "response": "The old mill burned down, they say.", "seed": 1},
        {"task": "other", "query": source, "response": copy},
    ]
    counts = copying.count_copies(samples_frame([row | {"model": "fine-tuned"} for row in rows]))
    table = copying.copy_start_table(counts).set_index(["task", "inputs"])
    assert table.loc[("cnndm", "all"), ["share", "n"]].tolist() == [pytest.approx(2 / 3), 3]
    assert table.loc[("cnndm", "all"), "first_words_share"] == 1
    assert table.loc[("cnndm", "without preamble"), ["share", "n"]].tolist() == [0.5, 2]
    assert table.loc[("cnndm", "with preamble"), ["share", "n"]].tolist() == [1, 1]
    assert table.loc[("other", "all"), "share"] == 1 and table.loc[("other", "with preamble"), "n"] == 0
    assert np.isnan(table.loc[("other", "with preamble"), "share"])
    assert table.loc[("cnndm", "all"), "published"] == 0.776


def test_copied_sentences_name_the_place_in_the_source():
    source = (
        "City desk: by Ann. The old mill burned down today. Ann Hill saw the smoke first. It rained all night long."
    )
    rows = [
        {"response": "Ann Hill saw the smoke first. The old mill burned down today."},
        {
            "response": "The old mill burned down yesterday. It rained. It rained all night long"
        },  # two words do not count
        {"response": ""},
    ]
    frame = samples_frame([row | {"task": "cnndm", "model": "m", "query": source} for row in rows])
    places = copying.copied_sentences(frame)
    assert places["place"].tolist() == [3, 2, 0, 4] and places["preamble"].all()
    table = copying.copied_sentence_table(places, last=3).set_index("place")
    assert table["share"].to_dict() == {"1": 0, "2": 0.25, "3": 0.25, "later": 0.25, "none": 0.25}
    assert (table["n"] == 4).all()


def test_an_opening_is_worth_what_came_after_it():
    source = "The old mill burned down today. Ann Hill saw the smoke first. It rained all night long."
    said = [  # (summary, place, finished, points)
        ("The old mill burned down today.", 1, True, 2.0),
        ("The old mill opens tomorrow. Ann Hill saw the smoke first.", 1, False, 0.0),
        ("The old mill burned down today, Ann Hill said.", 1, False, 0.5),
        ("Ann Hill saw the smoke first.\nMore", 2, True, 2.0),
        ("It rained.", 0, False, 1.0),  # two words begin like nothing
        ("", 0, False, 0.0),
    ]
    rows = [{"task": "cnndm", "model": "m", "query": source, "response": text} for text, *_ in said]
    opened = copying.openings(samples_frame(rows))
    assert opened["place"].tolist() == [place for _, place, *_ in said]
    assert opened["finished"].tolist() == [finished for *_, finished, _ in said]
    assert not opened["preamble"].any()
    table = copying.opening_table(opened.assign(points=[points for *_, points in said]), last=3).set_index("place")
    assert table["n"].tolist() == [3, 1, 0] and table["share"].tolist() == [3 / 6, 1 / 6, 0]
    assert table.loc[1, "finished"] == pytest.approx(1 / 3) and table.loc[1, "points"] == pytest.approx(2.5 / 3)
    assert table.loc[1, "low"] <= table.loc[1, "points"] <= table.loc[1, "high"]
    assert table.loc[3, ["finished", "points", "low"]].isna().all()


def seconds(work, times):
    """Best of three means, in seconds of this process."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - start) / times)
    return best


def test_alignment_is_300_times_faster_than_a_plain_program():
    random = np.random.default_rng(0)
    source, summary = (random_words(random, n, 3000) for n in (700, 70))
    summary[10:40] = source[100:130]
    coded = copying.coded_bigrams(source, summary)
    numbers = [[ord(c) for c in side] for side in coded]
    ratio = seconds(lambda: lcs_length(*numbers), 3) / seconds(lambda: copying.lcs_positions(*coded), 2000)
    assert ratio > 300, f"only {ratio:.0f} times"
