"""The analyses on real articles, posts and human judgements (shared/real): published numbers come out again."""

import numpy as np
import pandas as pd
import pytest

from rlhf_lib.analysis import baselines, copying, estimate, novelty, preference, rouge, stats, text
from rlhf_lib.analysis import real as texts
from rlhf_lib.errors import KitError

# AUC of plain bigram containment (real/README.md), the floor of the automatic estimate.
FLOORS = {"summeval/summary": 0.79, "qags/summary": 0.82, "qags/sentence": 0.82, "xsumfaith/summary": 0.71}


def test_sentence_novelty_of_references_is_the_posts(real):
    rows = pd.concat([baselines.reference_rows(texts.articles(real)), baselines.reference_rows(texts.posts(real))])
    table = novelty.novelty_table(novelty.count_novel(rows), draws=200).set_index(["task", "unit"])
    for task, published in (("cnndm", 0.967), ("tldr", 0.989)):
        row = table.loc[(task, "sentence")]
        assert row["published"] == published and abs(row["novelty"] - published) < 0.03, row["novelty"]


def test_without_normalising_every_highlight_looks_novel(real):
    frame = texts.articles(real)
    raw = [
        line not in query
        for query, reference in zip(frame["query"], frame["reference"], strict=True)
        for line in reference.split("\n")
        if line.endswith(" .")
    ]
    assert len(raw) > 1000 and np.mean(raw) > 0.995


def test_lead3_rouge_is_the_literatures_for_cnn(real):
    scores = rouge.score_samples(baselines.lead3_rows(texts.articles(real)), processes=1)
    got = 100 * scores[["rouge1", "rouge2", "rougeLsum"]].mean()
    assert np.abs(got.to_numpy() - rouge.PUBLISHED_LEAD3["cnn"]).max() < 2, got.tolist()


def test_preambles_are_those_marked_in_the_files(real):
    for row in texts.rows_of(real, "cnndm_real"):
        assert copying.has_preamble(row["article"], "cnndm") == row["colon_in_first_3_words"]
    for row in texts.rows_of(real, "tldr_real"):
        assert copying.has_preamble(row["post"], "tldr") == row["preamble_start"]


@pytest.mark.parametrize("systems", [8, pytest.param(25, marks=pytest.mark.slow)])
def test_rouge_agrees_with_the_official_script(real, systems):
    rows = texts.official_rouge(real, systems)
    ours = rouge.rouge_scores(rows["reference"], rows["summary"], processes=1)
    official = rows[["rouge1", "rouge2", "rougeL"]].to_numpy()
    for mine, its, correlation, gap in ((0, 0, 0.98, 1.0), (1, 1, 0.99, 0.5), (3, 2, 0.93, 2.0)):
        assert np.corrcoef(ours[:, mine], official[:, its])[0, 1] > correlation
        assert 100 * abs(ours[:, mine].mean() - official[:, its].mean()) < gap


def test_alignment_of_real_summaries_equals_the_oracle(real):
    from tests.analysis.test_copying import lcs_length

    for row in texts.rows_of(real, "realsumm_cnndm")[:3]:
        for system in row["systems"][:2]:
            pair = copying.coded_bigrams(text.words(row["article"]), text.words(" ".join(system["summary_sents"])))
            assert len(copying.lcs_positions(*pair)) == lcs_length(*pair)


def test_estimate_is_at_the_floor_on_a_subsample(real):
    data = texts.judgements(real, 150)
    table = estimate.feature_table(data["source"], data["summary"])
    got = estimate.cross_validate(data, table, folds=3).set_index("set")
    assert set(got.index) == set(FLOORS)
    for name, floor in FLOORS.items():
        assert abs(got.loc[name, "floor_auc"] - floor) < 0.09, got  # 150 have a standard error of about 0.04
    assert (got["auc"] > got["floor_auc"] - 0.05).all(), got


@pytest.mark.slow
def test_estimate_reaches_the_floor_on_every_set_or_says_so(real):
    """Nested: what is tested chose nothing. Where one set stays below its floor, the floor is what is fitted."""
    fitted = estimate.fit_estimate(texts.judgements(real, None))
    got = fitted.validation.set_index("set")
    for name, floor in FLOORS.items():
        assert got.loc[name, "floor_auc"] == pytest.approx(floor, abs=0.015), got
    reached = bool((got["auc"] >= got["floor_auc"]).all())
    assert fitted.columns == ((estimate.FLOOR,) if not reached else fitted.columns)
    assert ("did not reach" in fitted.method) is not reached
    assert (got["auc"] > got["floor_auc"] - 0.02).all(), got


def test_copy_preference_of_real_people_on_news(real):
    for question in ("overall", "informative"):
        value, low, high = preference.copy_preference(preference.copy_choices(texts.news_choices(real, question)))
        assert 0.45 < value < 0.7 and low < value < high and high - low < 0.25
    rows = texts.rows_of(real, "prefs_news_pairwise_human")
    verdicts = pd.DataFrame(
        {
            "item": [(r["article_id"], r["writer_id"]) for r in rows],
            "labeler": [r["evaluator_id"] for r in rows],
            "verdict": [r["overall"] for r in rows],
        }
    )
    assert isinstance(preference.agreement(verdicts), stats.Interval)
    assert 0.3 < preference.agreement(verdicts).value < 0.5


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(KitError, match="no folder .*nowhere"):
        texts.folder(tmp_path / "nowhere")
    with pytest.raises(KitError, match="cnndm_real.jsonl.gz cannot be read"):
        texts.articles(tmp_path)
