"""The embedded world: seeded, streaming, varied, and its reader agrees with its writer."""

import random
from itertools import islice, pairwise

import pytest

from rlhf_lib.corpora import tinyworld, tinyworld_check, tinyworld_news, tinyworld_stories, tinyworld_words
from rlhf_lib.corpora import tinyworld_grammar as grammar

MAKERS = {"cnndm": tinyworld.article, "tldr": tinyworld.post}


def some(task: str, count: int = 300, seed: int = 5) -> list[tinyworld.Document]:
    return list(islice(tinyworld.documents(task, seed, "test"), count))


def test_the_world_is_as_large_as_promised():
    assert len(tinyworld_words.SETTINGS) >= 5
    assert len(tinyworld_news.ARTICLES) + len(tinyworld_news.POSTS) >= 8


def test_seeded_and_streaming():
    assert tinyworld.story(3, 17) == list(islice(tinyworld.stories(3), 18))[17]
    assert tinyworld.story(3, 17) != tinyworld.story(4, 17) != tinyworld.story(4, 17, "test")
    assert tinyworld.article(3, 5) == some_equal(3, 5)


def some_equal(seed: int, index: int) -> tinyworld.Document:
    return list(islice(tinyworld.documents("cnndm", seed), index + 1))[index]


def test_every_written_sentence_is_read_as_grammatical():
    texts = [tinyworld.story(5, i) for i in range(200)]
    texts += [t for task in MAKERS for d in some(task, 200) for t in (d.text, d.reference)]
    assert tinyworld_check.grammatical_share(texts, whole=True) == 1.0


def test_garbled_sentences_are_not_grammatical():
    rng = random.Random(0)
    shuffled = []
    for i in range(100):
        words = rng.choice(grammar.sentences_of(tinyworld.story(6, i))).rstrip(".").split()
        mixed = rng.sample(words, len(words))
        if mixed != words:
            shuffled.append(" ".join(mixed).capitalize() + ".")
    assert tinyworld_check.grammatical_share(shuffled, whole=True) < 0.05


@pytest.mark.parametrize("task", MAKERS)
def test_references_are_true_of_their_source_and_of_no_other(task):
    documents = some(task)
    own = [tinyworld_check.check(d.reference, d.facts).accurate for d in documents]
    other = [tinyworld_check.check(d.reference, e.facts).accurate for d, e in pairwise(documents)]
    assert all(own)
    assert sum(other) / len(other) < 0.01


@pytest.mark.parametrize("task", MAKERS)
def test_changing_one_fact_makes_a_true_sentence_untrue(task):
    rng, changed = random.Random(1), 0
    for document in some(task, 120):
        sentence = grammar.sentences_of(document.reference)[0]
        for template in tinyworld_check.templates_of(document.facts["kind"]):
            stated = grammar.match(template, sentence)
            if stated and all(document.facts.get(slot) == word for slot, word in stated.items()):
                slot = rng.choice(list(stated))
                wrong = grammar.draw(slot, rng)
                if wrong != stated[slot]:
                    lie = grammar.fill(template, stated | {slot: wrong})
                    assert not tinyworld_check.check(lie, document.facts).accurate, (sentence, lie)
                    changed += 1
                break
    assert changed > 80


@pytest.mark.parametrize("task", MAKERS)
def test_three_in_ten_open_with_a_preamble_by_the_posts_definition(task):
    documents = some(task, 1500)
    share = sum(d.starts_with_preamble for d in documents) / len(documents)
    assert 0.26 < share < 0.34
    for document in documents:
        words = document.text.split()
        by_definition = (
            words[0].strip(",.").lower() in {"hi", "hello", "hey", "ok", "okay", "so"}
            if task == "tldr"
            else any(word.endswith(":") for word in words[:3])
        )
        assert by_definition == document.starts_with_preamble


def test_a_preamble_says_nothing_that_can_be_checked():
    document = next(d for d in some("cnndm") if d.starts_with_preamble)
    verdict = tinyworld_check.check(grammar.sentences_of(document.text)[0], document.facts)
    assert (verdict.true, verdict.untrue, verdict.empty) == (0, 0, 1)
    assert not verdict.accurate and not verdict.checkable


@pytest.mark.parametrize("task", MAKERS)
def test_lead_covers_the_main_facts_and_details_none(task):
    for document in some(task, 100):
        lead, details = document.text.split("\n")
        assert tinyworld_check.main_facts_covered(lead, document.facts) == 1.0
        assert tinyworld_check.main_facts_covered(details, document.facts) == 0.0


@pytest.mark.parametrize("task", MAKERS)
def test_a_sentence_seen_in_training_is_rarely_seen_again(task):
    """Of sentences that say something (a preamble is the same for many)."""
    seen = {s for d in islice(tinyworld.documents(task, 1), 4000) for s in grammar.sentences_of(d.text)}
    held_out = [s for d in some(task, 300) for s in grammar.sentences_of(d.text)[d.starts_with_preamble :]]
    assert sum(s in seen for s in held_out) / len(held_out) < 0.05


def test_story_groups_bring_what_they_promise():
    from rlhf_lib.labels.simulated import descriptiveness, vader_sum

    rng = random.Random(2)
    people = {"name": "Ada", "name2": "Ben", "she": "she", "She": "She", "her": "her", "Her": "Her"}

    def mean(score, group: str) -> float:
        made = []
        for template in tinyworld_stories.GROUPS[group]:
            for _ in range(20):
                facts = dict(people) | {s: grammar.draw(s, rng) for s in grammar.slots_of(template) if s not in people}
                made.append(score(grammar.fill(template, facts)))
        return sum(made) / len(made)

    assert mean(vader_sum, "glad") > 1 > -1 > mean(vader_sum, "sorry")
    assert mean(descriptiveness, "seen") > 2 * mean(descriptiveness, "plain")
