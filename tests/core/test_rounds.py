"""Collecting in rounds: who is asked about what, what each reward model knows, and stopping at any batch."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from core_models import TEXTS, tiny_lm

from rlhf_lib import manifest, rounds
from rlhf_lib.errors import KitError
from rlhf_lib.labels.pause import Waiting
from rlhf_lib.labels.session import LabelSession
from rlhf_lib.labels.store import LabelStore
from rlhf_lib.labels.waiting import ask_people, queue_of
from rlhf_lib.metrics import read_metrics
from rlhf_lib.policy import Policy
from rlhf_lib.profiles import PPOConfig, RewardConfig
from rlhf_lib.rounds import Plan, Setting, train
from rlhf_lib.tasks import build_queries

PPO = PPOConfig(episodes=48, batch=8, lr=2e-3, kl_coef=0.05, save_every=2, micro_batch=8)
REWARD = RewardConfig(labels=64, batch=4, lr=1e-3, normalize_samples=16, heldout=0.2)


class Labelers:
    """Pick the response with most a's, and remember what they were asked; may be out at some rounds, once."""

    def __init__(self, out=()):
        self.out, self.asked = set(out), []

    def __call__(self, rows, number, before):
        if number in self.out:
            self.out.remove(number)
            raise Waiting(f"round {number} waits")
        self.asked.append((number, before, rows))
        return [{**row, "best": max(range(4), key=lambda i: row["responses"][i].count("a"))} for row in rows]


@pytest.fixture()
def make(task, tokenizer):
    lm = tiny_lm()
    with torch.no_grad():  # it ends sentences often enough for the filter
        lm.transformer.ln_f.bias += 2.0 * lm.transformer.wte.weight[task.truncate_id]
    start = Policy(lm).requires_grad_(False)
    texts = build_queries([f"{text[:9]}{letter}{text[9:]}" for letter in "aeioubcd" for text in TEXTS], task)

    def setting(folder: Path, ask, **changed) -> Setting:
        given = {"folder": folder, "start": start, "tokenizer": tokenizer, "task": task, "ask": ask, "scale": texts,
                 "queries": lambda number, count: rounds.Queries(texts.ids[:count], texts.mask[:count], []),
                 "prompts": texts, "reward": REWARD, "ppo": PPO, "seed": 1}  # fmt: skip
        return Setting(**{**given, **changed})

    return setting


@pytest.mark.parametrize("arithmetic", [None, torch.bfloat16])
def test_what_nothing_trains_is_in_bfloat16_where_the_arithmetic_is(make, tmp_path, monkeypatch, arithmetic):
    used, original = [], rounds.train_ppo

    def watched(policy, reference, score, *rest):
        used.extend({p.dtype for p in model.parameters()} for model in (policy, reference, score.__self__.body))
        return original(policy, reference, score, *rest)

    monkeypatch.setattr(rounds, "train_ppo", watched)
    setting = make(tmp_path, Labelers(), ppo=replace(PPO, episodes=8))
    setting.start.autocast = arithmetic
    setting.train("ppo_0", setting.fit(0, setting.ask(setting.comparisons(0, setting.start, 12), 0, 0)).score)
    frozen = {arithmetic or torch.float32}
    assert used == [{torch.float32}, frozen, frozen]
    assert {p.dtype for p in setting.start.parameters()} == {torch.float32}


def weights(policy: Policy) -> torch.Tensor:
    return torch.cat([p.flatten() for p in policy.parameters()])


@pytest.mark.parametrize("plan", [Plan("offline", 24), Plan("batched", 25, 3), Plan("online", 25, 3)])
def test_the_budget_is_spent_in_equal_rounds_and_no_more(make, tmp_path, plan):
    labelers = Labelers()
    train(make(tmp_path, labelers), plan)
    asked = [len(rows) for _, _, rows in labelers.asked]
    assert [number for number, _, _ in labelers.asked] == list(range(plan.rounds))
    assert sum(asked) == plan.labels and max(asked) - min(asked) <= 1
    assert [before for _, before, _ in labelers.asked] == [sum(asked[:r]) for r in range(plan.rounds)]
    assert all(len(set(row["responses"])) > 1 for _, _, rows in labelers.asked for row in rows)


def test_offline_asks_the_start_alone_and_the_others_ask_later_policies(make, tmp_path):
    said = {}
    for plan in (Plan("offline", 20), Plan("batched", 40, 2), Plan("online", 40, 2)):
        labelers = Labelers()
        train(make(tmp_path / plan.strategy, labelers), plan)
        said[plan.strategy] = [rows for _, _, rows in labelers.asked]
    assert said["offline"][0] == said["batched"][0] == said["online"][0], "round 0 is the starting model's"
    start = make(tmp_path / "x", Labelers())
    again = start.comparisons(1, start.start, 20)
    for strategy in ("batched", "online"):
        assert said[strategy][1] != again, "round 1 is another policy's"
    assert said["batched"][1] != said["online"][1]


def test_batched_retrains_from_the_start_on_all_labels(make, tmp_path):
    """Its second training is the one that offline would do with both rounds' labels."""
    labelers = Labelers()
    setting = make(tmp_path / "a", labelers)
    policy = train(setting, Plan("batched", 24, 2))
    rows = [row for number in (0, 1) for row in manifest.read_rows(tmp_path / "a" / f"labels_{number}.jsonl")]
    alone = make(tmp_path / "b", Labelers())
    assert torch.equal(weights(policy), weights(alone.train("ppo_0", alone.fit(0, rows).score)))
    assert rounds.last_training(tmp_path / "a", Plan("batched", 24, 2)).name == "ppo_1"


def test_online_changes_the_reward_model_at_the_due_updates(make, tmp_path):
    """Until the re-fit it is the offline run with the same first labels; from it on the scores are another model's."""
    train(make(tmp_path / "on", Labelers()), Plan("online", 24, 2))
    train(make(tmp_path / "off", Labelers()), Plan("offline", 12))
    on, off = (read_metrics(tmp_path / name / "ppo_0" / "metrics.jsonl") for name in ("on", "off"))
    scores = [[row["objective/score"] for row in rows] for rows in (on, off)]
    total, due = PPO.episodes // PPO.batch, PPO.episodes // PPO.batch // 2
    assert len(on) == total and scores[0][:due] == scores[1][:due]
    assert all(a != b for a, b in zip(scores[0][due:], scores[1][due:], strict=True))


@pytest.mark.parametrize(("delay", "known"), [(0, [6, 12, 18]), (1, [6, 6, 12]), (5, [6, 6, 6])])
def test_late_labels_arrive_late_or_never(make, tmp_path, monkeypatch, delay, known):
    fitted, fit = [], Setting.fit
    monkeypatch.setattr(Setting, "fit", lambda self, number, rows: fitted.append(len(rows)) or fit(self, number, rows))
    train(make(tmp_path, Labelers()), Plan("online", 18, 3, delay))
    assert fitted == known


@pytest.mark.parametrize("plan", [Plan("batched", 24, 2), Plan("online", 24, 3)])
def test_waiting_for_people_at_any_batch_changes_nothing(make, tmp_path, plan):
    """The run stops at every batch, goes on when called again, and ends as if it had never waited."""
    straight = train(make(tmp_path / "straight", Labelers()), plan)
    labelers, waited = Labelers(out=range(plan.rounds)), []
    for number in range(plan.rounds):
        with pytest.raises(Waiting, match=f"round {number} waits"):
            train(make(tmp_path / "waiting", labelers), plan)
        waited.append(number)
    stopped = train(make(tmp_path / "waiting", labelers), plan)
    assert torch.equal(weights(straight), weights(stopped))
    assert [number for number, _, _ in labelers.asked] == waited, "each batch was asked for once"
    folders = [rounds.last_training(tmp_path / name, plan) for name in ("straight", "waiting")]
    rows = [read_metrics(folder / "metrics.jsonl") for folder in folders]
    assert [r["objective/score"] for r in rows[0]] == [r["objective/score"] for r in rows[1]]


@pytest.mark.parametrize("plan", [Plan("batched", 24, 2), Plan("online", 24, 3)])
def test_a_person_labels_each_batch_in_the_store_and_the_training_goes_on(make, tmp_path, plan):
    """The whole way of notebook 02's widget: what a person picked is what each reward model was fitted to."""
    store, folder, picked = LabelStore(str(tmp_path / "labels.sqlite")), tmp_path / "run", set()
    setting = make(folder, ask_people(store, "mine", "start"))
    for number, count in enumerate(plan.shares()):
        with pytest.raises(Waiting, match=f"{count} of {count} comparisons .* 'mine-round-{number}'"):
            train(setting, plan)
        session = LabelSession(store, "ann", queue_of("mine", number))
        while (item := session.current()) is not None:
            place = max(range(4), key=lambda p: item.texts[p].count("a"))
            picked.add((item.context, item.texts[place]))
            session.answer(place)
    policy = train(setting, plan)
    kept = [row for n in range(plan.rounds) for row in manifest.read_rows(folder / f"labels_{n}.jsonl")]
    assert len(kept) == plan.labels and {row["labeler"] for row in kept} == {"ann"}
    assert {(row["query"], row["responses"][row["best"]]) for row in kept} == picked
    again = make(tmp_path / "again", lambda rows, number, before: manifest.read_rows(folder / f"labels_{number}.jsonl"))
    assert torch.equal(weights(policy), weights(train(again, plan))), "waiting for her changed nothing"


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_a_killed_online_run_goes_on_as_if_nothing_had_happened(make, tmp_path, at):
    def kill(state):
        if state.step == at:
            raise Killed

    plan, labelers = Plan("online", 24, 3), Labelers()
    straight = train(make(tmp_path / "straight", Labelers()), plan)
    with pytest.raises(Killed):
        train(make(tmp_path / "killed", labelers, callbacks=[kill]), plan)
    assert torch.equal(weights(straight), weights(train(make(tmp_path / "killed", labelers), plan)))
    assert len(labelers.asked) == plan.rounds


@pytest.mark.parametrize(
    ("arguments", "part"),
    [(("daily", 10), "no strategy"), (("offline", 10, 2), "do not fit"), (("online", 3, 4), "do not fit"),
     (("batched", 10, 2, 1), "late")],
)  # fmt: skip
def test_plans_that_make_no_sense_are_refused(arguments, part):
    with pytest.raises(KitError, match=part):
        Plan(*arguments)


def test_more_rounds_than_updates_are_refused(make, tmp_path):
    with pytest.raises(KitError, match="as many updates"):
        train(make(tmp_path, Labelers(), ppo=replace(PPO, episodes=16)), Plan("online", 24, 3))


def test_trained_results_do_not_hang_on_the_label_store():
    """The cache hashes what a room imports: hours of training must not be lost to a change of the store."""
    waiting, seen = [manifest.PACKAGE / "rounds.py"], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        waiting += manifest.imported_files(ast.parse(path.read_text(encoding="utf-8"))) - seen
    assert manifest.PACKAGE / "ppo.py" in seen and manifest.PACKAGE / "labels" / "store.py" not in seen
