"""Simulated labelers of summaries: what each sees, and that neither has a rule about position."""

import random

import numpy as np
import pandas as pd
import pytest

from rlhf_lib.corpora import tinyworld, tinyworld_check
from rlhf_lib.corpora.tinyworld_grammar import sentences_of
from rlhf_lib.errors import KitError
from rlhf_lib.labels import LabelSession, LabelStore, simulated, summaries, watching
from rlhf_lib.labels.pause import Waiting
from rlhf_lib.labels.summaries import Source, read, summary_score
from rlhf_lib.labels.waiting import ask_people, queue_of

ARTICLES = [tinyworld.article(3, i, "test") for i in range(60)]
POSTS = [tinyworld.post(3, i, "test") for i in range(60)]


def source_of(document) -> Source:
    return Source(document.facts, document.reference)


def main_sentences(document) -> list[str]:
    return sentences_of(document.text)[document.starts_with_preamble :][:3]


def points(kind: str, document, summary: str) -> float:
    return summary_score(kind, {document.text: source_of(document)})(document.text, summary)


@pytest.mark.parametrize("documents", [ARTICLES, POSTS], ids=["articles", "posts"])
def test_a_hurried_labeler_picks_the_copy_and_a_careful_one_the_reference(documents):
    for document in documents:
        copy = " ".join(main_sentences(document)[:2])
        assert points("hurried", document, copy) > points("hurried", document, document.reference)
    careful = [points("careful", d, text) for d in documents for text in (main_sentences(d)[0], d.reference)]
    copy, reference = np.reshape(careful, (-1, 2)).mean(0)
    assert reference > copy


@pytest.mark.parametrize("kind", summaries.POINTS)
def test_a_copied_preamble_tells_nothing(kind):
    for document in (d for d in ARTICLES + POSTS if d.starts_with_preamble):
        preamble, *rest = sentences_of(document.text)
        assert points(kind, document, preamble) == 0
        assert points(kind, document, f"{preamble} {rest[0]}") < points(kind, document, " ".join(rest[:2]))


@pytest.mark.parametrize("kind", summaries.POINTS)
def test_neither_has_a_rule_about_position(kind):
    """Wherever the copied sentences stand in the source, and in whatever order: the same points."""
    rng = random.Random(1)
    for document in ARTICLES + POSTS:
        lines = sentences_of(document.text)
        shuffled = " ".join(rng.sample(lines, len(lines)))
        first, second, third = main_sentences(document)
        for summary in (first, f"{second} {third}", lines[-1], document.reference):
            moved = summary_score(kind, {shuffled: source_of(document)})(shuffled, summary)
            if summary != document.reference:  # which may hold runs across two sentences of the source
                assert moved == pytest.approx(points(kind, document, summary))
        assert points(kind, document, f"{first} {second}") == pytest.approx(points(kind, document, f"{second} {first}"))


def test_every_main_fact_is_worth_the_same_and_a_detail_none():
    for document in ARTICLES:
        worth = [points("hurried", document, sentence) for sentence in main_sentences(document)]
        detail = points("hurried", document, sentences_of(document.text)[-1])
        assert worth == pytest.approx([summaries.COPY + summaries.FACTS / 3] * 3) and detail == summaries.COPY


@pytest.mark.parametrize("kind", summaries.POINTS)
def test_untruth_costs_the_careful_more_than_the_hurried(kind):
    costs = {}
    for k in summaries.POINTS:
        other = tinyworld.article(99, 5, "test")
        untrue = [d for d in ARTICLES if d.facts["kind"] != other.facts["kind"]]
        costs[k] = [points(k, d, other.reference) for d in untrue]
        assert max(costs[k]) < 0
    assert np.mean(costs["careful"]) < np.mean(costs["hurried"])


def test_reading_against_counting_by_hand():
    """Copied runs counted as substrings, truth and coverage by the world's checker; wrong numbers are no copy."""
    rng = random.Random(2)
    for document in ARTICLES + POSTS:
        texts = [*main_sentences(document), document.reference, rng.choice(ARTICLES).reference]
        summary = " ".join(rng.sample(texts, 2))
        found = total = 0
        source = " " + " ".join(document.text.lower().replace(",", "").replace(".", "").replace(":", "").split()) + " "
        for sentence in sentences_of(summary):
            words = sentence.lower().replace(",", "").rstrip(".").split()
            runs = [" ".join(words[i : i + 3]) for i in range(len(words) - 2)]
            found, total = found + sum(f" {run} " in source for run in runs), total + len(runs)
        reading, verdict = (
            read(document.text, summary, source_of(document)),
            tinyworld_check.check(summary, document.facts),
        )
        assert reading.copied == pytest.approx(found / total)
        assert reading.untrue == pytest.approx(verdict.untrue / (verdict.true + verdict.untrue + verdict.empty))
        assert reading.covered == tinyworld_check.main_facts_covered(summary, document.facts)
    fire = next(d for d in ARTICLES if d.facts["kind"] == "fire")
    sentence = main_sentences(fire)[0]
    wrong = sentence.replace(fire.facts["n1"], "11")
    assert read(fire.text, wrong, source_of(fire)).copied < read(fire.text, sentence, source_of(fire)).copied == 1


def test_real_text_without_facts():
    query = "The mayor of Leeds, Ann Poe, opened a bridge on Monday. It cost 12 million pounds."
    source = Source(None, "A bridge was opened in Leeds for 12 million pounds.")
    said = ("Ann Poe, opened a bridge on Monday.", "Leeds has got itself a bridge.", "Bradford lost 7 trains.", "")
    copy, novel, untrue, nothing = (read(query, summary, source) for summary in said)
    assert copy.copied == 1 and novel.copied == 0 == nothing.copied
    assert copy.untrue == novel.untrue == nothing.untrue == 0 and untrue.untrue == 1
    assert novel.covered > untrue.covered == nothing.covered == 0
    known = {query: source}
    assert summary_score("hurried", known)(query, "Ann Poe, opened a bridge on Monday.") > summary_score(
        "hurried", known)(query, source.reference)  # fmt: skip
    assert summary_score("careful", known)(query, source.reference) == 1


def test_what_is_not_known_is_refused():
    with pytest.raises(KitError, match="no simulated labeler 'sleepy'"):
        summary_score("sleepy", {})
    with pytest.raises(KitError, match="does not know the text"):
        summary_score("hurried", {})("Some text.", "A summary.")


def test_sources_of_sample_rows():
    rows = pd.DataFrame({"query": ["a", "a", "b"], "facts": ['{"kind": "fire"}', '{"kind": "fire"}', None],
                         "reference": ["x", "x", None]})  # fmt: skip
    assert summaries.sources_of(rows) == {"a": Source({"kind": "fire"}, "x"), "b": Source(None, None)}


def test_noise_is_set_to_the_agreement_or_to_what_ties_allow():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 4))
    assert simulated.agreement(rows, summaries.noise_for(rows, 0.46)) == pytest.approx(0.46, abs=1e-3)
    tied = np.where(rng.random((400, 1)) < 0.6, 0.0, rows)  # labelers guess on six of ten rows: 0.55 at most
    most = simulated.agreement(tied, 0.0)
    assert most < 0.6
    assert simulated.agreement(tied, summaries.noise_for(tied, 0.6)) == pytest.approx(0.9 * most, abs=1e-3)


# -- people, a batch at a time ---------------------------------------------------------------------------------------


def test_a_batch_waits_for_people_and_is_asked_for_once(tmp_path):
    store = LabelStore(str(tmp_path / "labels.sqlite"))
    rows = [{"query": f"text {i}", "responses": [f"{i} {letter}" for letter in "abcd"]} for i in range(6)]
    ask = ask_people(store, "mine")
    with pytest.raises(Waiting, match="6 of 6 comparisons of round 2 wait for a label in the queue 'mine-round-2'"):
        ask(rows, 2, 40)
    session = LabelSession(store, "ann", queue_of("mine", 2))
    for _ in range(4):
        item = session.current()
        session.answer(next(p for p, text in enumerate(item.texts) if text.endswith("c")))
    with pytest.raises(Waiting, match="2 of 6"):
        ask(rows, 2, 40)
    assert store.count_items(queue_of("mine", 2)) == 6
    session.current()
    session.skip()
    session.current()
    session.answer(0)
    labeled = ask(rows, 2, 40)
    assert len(labeled) == 5 and {row["labeler"] for row in labeled} == {"ann"}
    asked = {row["query"]: row["responses"] for row in rows}
    assert all(row["responses"] == asked[row["query"]] for row in labeled)
    assert sum(row["responses"][row["best"]].endswith("c") for row in labeled) >= 4


# -- watching for a guesser ------------------------------------------------------------------------------------------


def made_up_labels(count: int, guess_from: int, seed: int = 1) -> tuple[list[dict], list[dict]]:
    """Labels of five labelers in turn who agree in about half, one comparison in four seen twice; 0 starts to guess."""
    rng = np.random.default_rng(seed)
    utilities = 1.5 * rng.normal(size=(count, 4))

    def view(place: int, labeler: int) -> dict:
        guesses = labeler == 0 and place >= guess_from
        seen = rng.normal(size=4) + (0 if guesses else utilities[place])
        return {"place": place, "labeler": labeler, "best": int(seen.argmax())}

    rows = [view(place, place % 5) for place in range(count)]
    return rows, [view(place, (place + 1 + place // 5 % 4) % 5) for place in range(count) if rng.random() < 0.25]


def test_a_guesser_is_named_after_the_midpoint_and_nobody_before():
    rows, seconds = made_up_labels(4000, guess_from=2000)
    watched = watching.watch(watching.answers_frame(rows, seconds), [1000] * 4)
    assert watched["labels"].tolist() == [1000, 2000, 3000, 4000]
    assert watched["suspects"].tolist()[:2] == [[], []]
    assert watching.noticed(watched, "0") in (3000, 4000)
    assert np.isnan(watching.noticed(watched, "3"))
    assert all(set(names) <= {"0"} for names in watched["suspects"])
    first, last = watched["agrees"].iloc[0], watched["agrees"].iloc[-1]
    assert last["0"] < 0.35 < min(share for name, share in last.items() if name != "0") and first["0"] > 0.35


def test_without_overlap_nobody_is_named():
    rows, _ = made_up_labels(400, guess_from=0)
    assert watching.watch(watching.answers_frame(rows), [200, 200])["suspects"].tolist() == [[], []]
    with pytest.raises(KitError, match="do not fit 400"):
        watching.watch(watching.answers_frame(rows), [200, 100])
