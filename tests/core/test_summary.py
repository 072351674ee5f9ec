"""The summary run: what its results depend on, what its labelers know, what its sweep reads off."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlhf_lib import manifest, summary, summary_sweep
from rlhf_lib.analysis import copying
from rlhf_lib.corpora.tinyworld_grammar import sentences_of
from rlhf_lib.errors import KitError
from rlhf_lib.labels.simulated import SimulatedLabeler
from rlhf_lib.rounds import Plan
from rlhf_lib.samples import samples_frame
from rlhf_lib.summary import SummaryRun


class Asked(Exception):
    """Stops a step at its first question to the cache."""


@pytest.mark.parametrize(
    ("step", "rooms"),
    [("base_measures", {"collect", "labels.summaries"}), ("_supervised_folder", {"sft", "corpora.streams"}),
     ("policy", {"rounds", "labels.summaries"}), ("samples", {"collect"})],
)  # fmt: skip
def test_a_change_of_code_remakes_what_it_made(tmp_path, monkeypatch, step, rooms):
    def cached(run_dir, name, inputs, make, rooms=(), resumes=False):
        raise Asked(rooms)

    monkeypatch.setattr(summary.manifest, "cached", cached)
    with pytest.raises(Asked) as asked:
        getattr(SummaryRun(tmp_path, "tldr", "smoke"), step)()
    assert rooms <= set(asked.value.args[0])


def test_a_policys_key_tells_plans_labelers_and_starts_apart(tmp_path, monkeypatch):
    keys = []

    def cached(run_dir, name, inputs, make, rooms=(), resumes=False):
        keys.append(manifest.inputs_key("the same", inputs)[0])
        return tmp_path

    monkeypatch.setattr(summary.manifest, "cached", cached)
    monkeypatch.setattr(SummaryRun, "_supervised_folder", lambda self: Path(__file__))
    run = SummaryRun(tmp_path, "tldr", "smoke")

    class Store:
        url = "sqlite:///here"

    for arguments in (
        ("fine-tuned", run.plan()), ("supervised + fine-tuned", run.plan()), ("fine-tuned", run.plan("offline")),
        ("fine-tuned", run.plan("batched")), ("fine-tuned", run.plan(delay=1)), ("fine-tuned", run.plan(labels=32)),
        ("fine-tuned", run.plan(), (), True), ("fine-tuned", run.plan(), (), False, Store()),
    ):  # fmt: skip
        run._policy_folder(*arguments)
    assert len(set(keys)) == len(keys) == 8
    run._policy_folder("fine-tuned", run.plan(), [print])  # callbacks watch, and change nothing
    assert keys[-1] == keys[0]


@pytest.mark.parametrize("task", ["cnndm", "tldr"])
def test_labelers_know_the_source_of_every_prompt(tmp_path, task):
    run = SummaryRun(tmp_path, task, "smoke")
    queries, known = run.some_queries(40, "train", 3), run.sources(40, "train", 3)
    for ids, mask, place in zip(queries.ids, queries.mask, queries.source, strict=True):
        text = run.task.decode(ids, mask)
        document = run.documents(place + 1, "train", 3)[place]
        assert known[text].facts == document.facts and text.strip() == document.text
    plan = Plan("batched", 20, 2)
    assert set(run.sources_of_rounds(plan)) >= set(run.sources(20, "train", run._text_seed(1)))
    first, second = (set(run.sources(20, "train", run._text_seed(number))) for number in (0, 1))
    assert not first & second, "each round asks about other texts"


@pytest.mark.parametrize("task", ["cnndm", "tldr"])
def test_enough_held_out_prompts_begin_with_a_preamble(tmp_path, task):
    run = SummaryRun(tmp_path, task, "smoke", overrides={"eval_prompts": 128})
    documents, queries = run.heldout()
    marked = [documents[place].starts_with_preamble for place in queries.source]
    assert len(queries) >= 128 and sum(marked) >= 128 * 300 / 1024
    found = [copying.has_preamble(documents[place].text, task) for place in queries.source]
    assert found == marked, "the post's definitions see the same preambles"
    assert not {d.text for d in documents} & {d.text for d in run.documents(200, "train", 3001)}


def rows_of(run, count: int = 24) -> list[dict]:
    """Comparisons of three copies of other texts and, at a place of its own, one of the text itself."""
    rows = []
    for number, (text, _) in enumerate(list(run.sources(40, "train", run._text_seed(0)).items())[:count]):
        own = " ".join(sentences_of(text)[1:3])
        others = [f"Nothing of the kind, number {i}." for i in range(3)]
        rows.append({"query": text, "responses": [*others[: number % 4], own, *others[number % 4 :]]})
    return rows


def test_the_pool_reads_and_a_guesser_guesses_from_half_of_the_budget_on(tmp_path, monkeypatch):
    run = SummaryRun(tmp_path, "tldr", "smoke")
    monkeypatch.setattr(SummaryRun, "base_measures", lambda self: {"noise": {"hurried": 0.0, "careful": 0.0}})
    rows = rows_of(run)
    right = [number % 4 for number in range(len(rows))]
    plan = Plan("offline", len(rows))
    assert [row["best"] for row in run._ask_pool(plan, False)(rows, 0, 0)] == right
    spoiled = run._ask_pool(plan, True)(rows, 0, 0)
    wrong = [place for place, row in enumerate(spoiled) if row["best"] != right[place]]
    assert wrong and min(wrong) >= len(rows) // 2
    assert {spoiled[place]["labeler"] for place in wrong} == {0}
    late = run._ask_pool(Plan("batched", 48, 2), True)(rows, 0, 0)  # the first half of the budget
    assert [row["best"] for row in late] == right


@pytest.fixture(scope="module")
def baselines(tmp_path_factory):
    run = SummaryRun(tmp_path_factory.mktemp("run"), "cnndm", "smoke")
    documents = run.documents(40, "test", 1)
    rows = [{"task": "cnndm", "model": "made up", "query_id": str(i), "query": d.text, "reference": d.reference,
             "response": "It rained.", "facts": d.facts, "starts_with_preamble": d.starts_with_preamble}
            for i, d in enumerate(documents)]  # fmt: skip
    return run, run.with_baselines(samples_frame(rows))


def test_lead_3_comes_cut_to_the_tasks_length_and_whole(baselines):
    run, frame = baselines
    texts = {model: list(rows["response"]) for model, rows in frame.groupby("model")}
    assert set(texts) == {"made up", "reference", "lead-3", "lead-3 uncapped"}
    tokens = [len(run.task.encode(text)) for text in texts["lead-3"]]
    assert np.mean(tokens) == pytest.approx(run.config.text.response_length, rel=0.15)
    assert all(whole.startswith(cut) for cut, whole in zip(texts["lead-3"], texts["lead-3 uncapped"], strict=True))
    assert all(len(sentences_of(whole)) == 3 for whole in texts["lead-3 uncapped"])


def test_labelers_are_compared_on_all_texts_and_differ(baselines, monkeypatch):
    run, frame = baselines
    monkeypatch.setattr(SummaryRun, "base_measures", lambda self: {"noise": {"hurried": 0.3, "careful": 0.1}})
    for kind, winner in (("hurried", "lead-3"), ("careful", "reference")):
        chosen = run.compare(kind, frame, ["lead-3", "reference"])
        assert len(chosen) == 40 and set(chosen["choice"]) <= {"a", "b"}
        assert ("a" if winner == "lead-3" else "b") == chosen["choice"].mode()[0]


def test_what_is_not_there_is_named(tmp_path):
    run = SummaryRun(tmp_path, "tldr", "smoke")
    with pytest.raises(KitError, match="not made by PPO"):
        run.start("supervised")
    with pytest.raises(KitError, match="no model 'best'"):
        run.samples(models=("best",))


# -- the sweep --------------------------------------------------------------------------------------------------------


def test_the_sweep_spends_one_budget_in_every_way(tmp_path):
    run = SummaryRun(tmp_path, "tldr", "tiny")
    plans = summary_sweep.plans(run)
    most = run.config.reward.labels
    assert [plan.strategy for plan, guesser in plans[:3]] == ["offline", "batched", "online"]
    assert {plan.labels for plan, guesser in plans[:3]} == {most}
    assert plans[2][0] == run.plan(), "the main models' plan: trained once for both"
    assert plans[3] == (run.plan("online", most, 20), False), "the paper's schedule: 19 re-fits"
    assert sorted(plan.delay for plan, _ in plans if plan.rounds == 8) == [0, 1, 5]
    assert (run.plan("online", 100), False) in plans, "fewer labels than are enough"
    assert [plan for plan, guesser in plans if guesser] == [plan for plan, _ in plans[:3]]
    assert len({(plan, guesser) for plan, guesser in plans}) == len(plans)


def test_a_smoke_sweep_asks_for_no_collection_twice(tmp_path):
    plans = summary_sweep.plans(SummaryRun(tmp_path, "tldr", "smoke"))
    assert len(set(plans)) == len(plans) and max(plan.rounds for plan, _ in plans) == 4, "as many as updates"


def test_the_sweep_keeps_a_row_a_plan_and_seed_and_the_main_ones_of_five_seeds(tmp_path, monkeypatch, capsys):
    def row(run, plan, guesser):
        return {"seed": run.seed, "guesser": guesser, "hurried_over_reference": 0.5, "rouge": 1.0} | vars(plan)

    monkeypatch.setattr(summary_sweep, "result_row", row)
    monkeypatch.setattr(summary_sweep, "over_offline", lambda run, plan: {"hurried_over_offline": 0.6})
    rows = summary_sweep.run_collections(tmp_path, "tiny", [1, 2, 3], "tldr")
    of_each = rows.groupby(["strategy", "labels", "rounds", "delay", "guesser"], sort=False).seed.apply(list)
    main = of_each[:3]
    assert main.tolist() == [[1, 2, 3, 4, 5]] * 3 and of_each[3:].tolist() == [[1, 2, 3]] * (len(of_each) - 3)
    assert len(of_each) == len(summary_sweep.plans(SummaryRun(tmp_path, "tldr", "tiny")))
    alone = rows.guesser | (rows.labels == summary_sweep.FEWEST)
    assert rows.hurried_over_offline.isna().tolist() == alone.tolist(), "guessers, and what has no offline beside it"
    kept = manifest.read_json(tmp_path / "metrics" / "summary_sweep.json")["rows"]
    assert len(kept) == len(rows) and "over references 50.0%" in capsys.readouterr().out


def test_policies_of_two_collections_are_compared_on_the_same_contexts(baselines, monkeypatch):
    run, frame = baselines
    better, worse = (frame[frame["model"] == name] for name in ("lead-3", "made up"))
    monkeypatch.setattr(SummaryRun, "base_measures", lambda self: {"noise": {"hurried": 0.3, "careful": 0.1}})
    monkeypatch.setattr(
        SummaryRun, "samples", lambda self, plan, models: worse if plan.strategy == "offline" else better
    )
    found = summary_sweep.over_offline(run, run.plan("online", 50))
    assert found["hurried_over_offline"] > 0.9
    assert found["hurried_over_offline_low"] <= found["hurried_over_offline"] <= found["hurried_over_offline_high"]
    assert summary_sweep.over_offline(run, run.plan("offline", 50)) == {}


class Watched:
    """A collection of four batches by five honest labelers, of whom 0 guesses from half of the budget on."""

    seed, plan = 1, Plan("online", 4000, 4)

    def labeler(self, kind, sources, seed, guess=0.0):
        assert kind == "hurried" and sources == "what labelers know"
        return SimulatedLabeler(lambda query, response: float(response), 0.6, seed, guess=guess)

    def sources_of_rounds(self, plan):
        return "what labelers know"

    def labels(self, model, plan, guesser):
        assert guesser and plan is self.plan
        worth = np.random.default_rng(5).normal(size=(plan.labels, 4)).round(3).astype(str)
        pool = [self.labeler("hurried", "what labelers know", seed) for seed in range(summary.POOL)]
        late = [self.labeler("hurried", "what labelers know", 99, guess=1.0), *pool[1:]]
        return [
            {"round": n // 1000, "labeler": n % 5, "query": "q", "responses": list(four),
             "best": (late if n >= 2000 else pool)[n % 5].pick("q", four)}
            for n, four in enumerate(worth)
        ]  # fmt: skip


def test_a_guesser_is_watched_from_the_labels_that_a_collection_kept():
    found = summary_sweep.watch_guesser(Watched(), Watched.plan)
    assert tuple(found) == summary_sweep.WATCHED
    assert found["noticed"] in (3000, 4000)
    assert found["guesser_agrees_last"] < 0.35  # one in four is chance
    assert 0.5 < found["others_agree_first"] < 0.7
    assert 0.4 < found["others_agree_last"] < found["others_agree_first"]  # a fourth of their partners guesses


def test_a_batch_before_half_of_the_budget_shows_no_guesser(monkeypatch):
    monkeypatch.setattr(Watched, "labels", lambda self, *_, guesser, made=Watched.labels: [
        row for row in made(self, "", self.plan, True) if row["round"] < 2
    ])  # fmt: skip
    found = summary_sweep.watch_guesser(Watched(), Watched.plan)
    assert np.isnan(found["noticed"]) and found["guesser_agrees_last"] > 0.4


def test_the_share_of_the_gap_is_that_of_the_means():
    values = {1: (0.5, 0.58, 0.6), 2: (0.4, 0.44, 0.5), 3: (0.5, 0.53, 0.6)}
    rows = pd.DataFrame(
        [{"seed": seed, "labels": 10, "usual": True, "strategy": strategy, "hurried_over_reference": value}
         for seed, three in values.items()
         for strategy, value in zip(("offline", "batched", "online"), three, strict=True)]
    )  # fmt: skip
    found = summary_sweep.gap_recovered(rows)
    assert found.share == pytest.approx(0.15 / 0.30) and found.low < found.share < found.high and found.n == 3
    assert summary_sweep.gap_recovered(rows[rows["strategy"] != "batched"]) is None


def test_a_sweep_is_kept_and_read_again(tmp_path):
    frame = pd.DataFrame({"a": [1, 2]})
    summary_sweep.record("tiny", frame, frame, frame, tmp_path)
    assert summary_sweep.recorded("summary_curves", tmp_path).equals(frame)
    assert manifest.read_json(tmp_path / "summary_manifest.json")["labelers"] == "simulated"
    with pytest.raises(KitError, match="No recorded 'summary_none'"):
        summary_sweep.recorded("summary_none", tmp_path)
