"""The mock experiment at smoke size: its labels, its runs and their cache, what is recorded and what claims read."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from rlhf_lib import known, known_sweep, manifest
from rlhf_lib.analysis import frontier, rates
from rlhf_lib.errors import KitError
from rlhf_lib.known import MAIN_KL, KnownRun
from rlhf_lib.policy import Policy

SMALL = {  # one seed's seconds, not minutes
    "ppo__episodes": 8, "ppo__batch": 4, "eval_prompts": 4, "sentiment__reward__labels": 24,
    "sentiment__reward__normalize_samples": 8,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cheap():
    """The base's entropy is not measured again here, and the sweep's optimum has few samples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KnownRun, "base_measures", lambda self: {"entropy": 26.5})
        patch.setattr(known_sweep, "BASE_EACH", 2)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return KnownRun(manifest.run_folder(tmp_path_factory.mktemp("known")), "sentiment", "smoke", overrides=SMALL)


def test_label_counts_are_the_papers_or_the_same_shares():
    for profile in ("tiny", "smoke"):
        each = KnownRun("nowhere", "sentiment", profile)
        counts = each.label_counts
        assert counts["large"] == each.config.reward.labels
        assert counts["large"] / counts["small"] == pytest.approx(12, rel=0.1)
    assert KnownRun("nowhere", "sentiment", "gpt2").label_counts == {"small": 5000, "middle": 20_000, "large": 60_000}


def test_the_mock_labeler_picks_the_highest_true_reward(run):
    rows = run.mock_labels(12)
    assert len(rows) == 12
    for row in rows:
        scores = run.reward.many(row["responses"])
        assert scores[row["best"]] == scores.max()
    assert run.mock_labels(5) == rows[:5]


def test_kl_targets_are_the_papers_share_of_the_bases_entropy(run):
    near, far, free = (run.known_config(kl) for kl in (4.0, 20.0, None))
    assert (near.kl_target, far.kl_target) == pytest.approx((2.0, 10.0))
    assert near.kl_target_share is None and near.kl_coef > far.kl_coef > 0
    assert run.known_config(MAIN_KL).kl_coef == run.config.ppo.kl_coef
    assert (free.kl_coef, free.kl_target, free.kl_target_share) == (0.0, None, None)


def test_a_run_keeps_its_true_reward_and_is_made_once(run):
    metrics = run.known_metrics("direct")
    assert np.allclose(metrics["known/true"], metrics["objective/score"], atol=1e-5)  # PPO hears the true reward itself
    before = len(manifest.cache_rows(run.run_dir))
    run.known_metrics("direct")
    assert [row["reused"] for row in manifest.cache_rows(run.run_dir)[before:] if "direct" in row["name"]] == [True]
    assert not list((run.known_folder("direct") / "checkpoint").iterdir())


def test_scored_samples_agree_with_the_parts_they_are_made_of(run):
    base = run.base_scores(2)
    assert len(base) == 8 and list(base["query_id"][:4]) == ["q0", "q0", "q1", "q1"]
    assert base["kl"].abs().max() == 0 and np.allclose(base["true"], base["proxy"])
    by_hand = np.where(base["penalised"], run.config.text.penalty, run.reward.many(base["response_truncated"]))
    assert np.allclose(base["true"], by_hand, atol=1e-5)
    tuned = run.known_samples("direct")
    assert tuned["kl"].abs().max() > 1e-4 and set(tuned["query_id"]) == set(base["query_id"])
    assert list(tuned["query"]) == list(base.drop_duplicates("query_id")["query"])


def test_kl_of_the_samples_is_that_of_the_scorer(run):
    """The base as a policy, loaded anew, has a KL of about 0 from itself by the way that goes through the scorer."""
    again = KnownRun(run.run_dir, "sentiment", "smoke", overrides=SMALL)
    rows = again.scored(run.base[0].frozen_copy(), 1, 5)
    assert rows["kl"].abs().max() < 1e-3 and rows["base_logprob"].between(-8, 0).all()


def test_a_proxys_row_has_both_rewards_and_the_bases_units(run):
    row = run.known_row("small", None)
    assert row["labels"] == run.label_counts["small"] and np.isnan(row["kl_target"] or np.nan)
    assert row["proxy"] != row["true"] and row["proxy_base_std"] > 0
    direct = run.known_row("direct")
    assert direct["proxy"] == direct["true"] and direct["proxy_base"] == direct["true_base"]
    json.dumps(row, default=manifest.plain)


def test_true_score_of_an_update_is_cut_and_penalised(run):
    words = run.task.encode(" She was glad and glad and glad and happy and she was so very happy at the end of it all.")
    responses = torch.full((2, run.config.text.response_length), run.task.encode(" glad")[0])
    responses[0, : len(words)] = torch.tensor(words[:24])
    assert run.task.passes(responses).tolist() == [True, False]
    state = type("State", (), {"data": {"responses": responses, "query_ids": responses, "query_mask": responses > 0},
                               "metrics": {}})  # fmt: skip
    known.TrueScore(run.reward, run.task)(state)
    cut, mask = run.task.truncate(responses)
    told = run.reward.log_odds(run.task.decode(cut[0], mask[0]))
    assert state.metrics["known/true"] == pytest.approx((told + run.config.text.penalty) / 2, abs=1e-5)


class Elsewhere(torch.Tensor):
    """Stands for a tensor on a GPU, where there is none: it works with its like, and refuses tensors of the CPU."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            if function is torch.Tensor.cpu:
                return args[0].as_subclass(torch.Tensor)
            if any(type(x) is torch.Tensor and x.dim() for x in tree_leaves((args, kwargs))):
                raise RuntimeError("Expected all tensors to be on the same device")
            found = function(*args, **(kwargs or {}))
            return tree_map(lambda x: x.as_subclass(cls) if isinstance(x, torch.Tensor) else x, found)


def test_samples_are_scored_wherever_the_models_are(run, monkeypatch):
    """On a GPU policies and reward models answer there, and the prompts are on the CPU."""
    here = run.scored(run.base[0].frozen_copy(), 1, 5)
    monkeypatch.setattr(KnownRun, "score_fn", lambda self, source: lambda *given: proxy(*given))
    proxy = lambda q, qm, r, rm: torch.arange(4.0)[: len(q)].as_subclass(Elsewhere)  # noqa: E731
    for name in ("sample", "logprobs"):
        original = getattr(Policy, name)

        def elsewhere(self, *given, original=original, **named):
            return tree_map(lambda x: x.as_subclass(Elsewhere), original(self, *given, **named))

        monkeypatch.setattr(Policy, name, elsewhere)
    there = run.scored(run.base[0].frozen_copy(), 1, 5)
    assert there.drop(columns="proxy").equals(here.drop(columns="proxy"))


def test_a_policy_starts_from_its_reference_which_the_paper_fine_tunes_first(tmp_path):
    """Before the first step there is no KL: both are the model after the books."""
    words = {"sentiment__sft__examples": 16, "sentiment__sft__batch": 8, "sentiment__sft__lr": 3e-3}
    run = KnownRun(manifest.run_folder(tmp_path), "sentiment", "smoke", overrides=SMALL | words)
    assert run.known_metrics("direct")["objective/kl"][0] == pytest.approx(0, abs=1e-3)


# ---- the sweep --------------------------------------------------------------------------------------------------


def test_the_grid_has_every_source_and_target_and_the_claims_first():
    grid = list(known_sweep.cells(3))
    assert len(grid) == len(set(grid))
    assert {(s, kl) for s, kl, seed in grid if seed == 1 and kl} == {
        (s, kl) for s in known.SOURCES for kl in known_sweep.KLS
    }
    assert [seed for source, kl, seed in grid if (source, kl) == ("middle", MAIN_KL)] == [1, 2, 3]
    last_claim = max(i for i, (_, kl, seed) in enumerate(grid) if seed > 1 or kl is None)
    assert all(seed == 1 for _, _, seed in grid[last_claim + 1 :])


@pytest.fixture(scope="module")
def swept(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    only = [("direct", MAIN_KL, 1), ("small", known_sweep.FAR_KL, 1), ("direct", None, 1)]
    rows = known_sweep.run_sweep(run.run_dir, "smoke", 1, only, overrides=SMALL)
    known_sweep.record(run.run_dir, "smoke", rows, folder, overrides=SMALL)
    return rows, folder


def test_what_is_recorded_can_be_read_again(swept):
    rows, folder = swept
    again, scores, curves, samples, base = known_sweep.open_sweep(folder)
    with pytest.raises(KitError, match="SWEEPS=1"):
        known_sweep.open_sweep(folder / "elsewhere")
    assert list(again["source"]) == ["direct", "small", "direct"] and again["target"].isna().tolist() == [0, 0, 1]
    assert len(scores) == 3 * 4 and len(curves) == 3 * 2 and len(base) == 4 * known_sweep.BASE_EACH
    assert set(samples["source"]) == {"base", "direct", "small"}
    for row in rows.itertuples():
        target = -1 if pd.isna(row.target) else row.target
        same = scores[(scores["source"] == row.source) & (scores["target"].fillna(-1) == target)]
        assert same["true"].mean() == pytest.approx(row.true, abs=1e-4)
    assert known_sweep.base_rewards(base).shape == (4, known_sweep.BASE_EACH)
    read = known_sweep.for_reading(samples, again)
    names = list(dict.fromkeys(read["policy"]))
    assert names[0] == "base" and names[1].startswith("target") and names[2] == "no penalty"
    assert (read["policy"].value_counts() == 4).all()
    own = read[read["policy"] == "no penalty"]
    assert own["policy_kl"].iloc[0] == pytest.approx(rows[rows["target"].isna()]["kl"].iloc[0])


def made_up_sweep():
    """Two targets, two seeds; the reward of the source is 1 + 2·√KL exactly."""
    rows, scores = [], []
    for target, kl in ((8.0, 4.0), (20.0, 9.0)):
        for seed in (1, 2):
            own = kl + 0.41 * seed
            true = 1 + 2 * np.sqrt(own)
            rows.append({"source": "direct", "target": target, "seed": seed, "true_base": 1.0, "kl": own, "true": true,
                         "true_se": 0.1, "proxy_base": 0.0, "proxy_base_std": 2.0, "true_base_std": 0.5})  # fmt: skip
            scores += [{"source": "direct", "target": target, "seed": seed, "query_id": f"q{i}", "kl": own,
                        "penalised": False, "true": true + (-1) ** i} for i in range(10)]  # fmt: skip
    return pd.DataFrame(rows), pd.DataFrame(scores)


def test_rewards_are_moved_to_one_kl_along_the_sources_own_frontier():
    rows, scores = made_up_sweep()
    rate = rates.rate(known_sweep.reward_counts(scores, rows, "direct", 4.0))
    assert rate["value"] == pytest.approx(1 + 2 * 2.0, abs=0.02) and rate["seeds"] == 2 and rate["n"] == 10
    points = known_sweep.frontier_points(rows)
    assert tuple(points.iloc[0][["kl", "reward"]]) == (0.0, 1.0)
    assert frontier.at_kl(points, points["kl"].iloc[1]) == pytest.approx(points["reward"].iloc[1])


def test_excess_is_told_in_the_bases_units():
    rows, _ = made_up_sweep()
    curves = pd.DataFrame({"source": "direct", "target": 20.0, "seed": [1, 1, 2], "episodes": [8, 16, 8],
                           "objective/kl": [0.0, 9.0, 0.0], "objective/score": [0.0, 4.0, 2.0],
                           "known/true": [1.0, 2.0, 1.5]})  # fmt: skip
    told = known_sweep.excess(curves, rows, "direct", 20.0, width=8)
    assert told["proxy"].tolist() == [0.5, 2.0] and told["true"].tolist() == [0.5, 2.0]  # two seeds at 8 episodes
    assert told["kl"].tolist() == [0.0, 9.0]


def test_measures_of_a_sweep_by_hand():
    """Paired by prompt and seed, moved to the target's KL; the proxy of the far policies promises more."""
    rows, scores = made_up_sweep()
    small = rows.assign(source="small", kl_target=1.0, base_logprob_base=-1.3)
    theirs = scores.assign(source="small", proxy=np.where(scores["target"] == 20.0, 6.0, 2.0), base_logprob=-1.5)
    unpunished = [frame[frame["target"] == 20.0].assign(target=np.nan) for frame in (small, theirs)]
    small, theirs = (pd.concat(both) for both in zip((small, theirs), unpunished, strict=True))
    rows = pd.concat([rows.assign(kl_target=1.0, base_logprob_base=-1.3), small])
    own = scores.assign(true=scores["true"] + 0.25, proxy=0.0, base_logprob=-1.5)
    late = own["query_id"] == "q0"  # did not end in time: says nothing of what the classifier thinks of the text
    free = own.assign(target=np.nan, true=np.where(late, -1.0, 3.0), base_logprob=-4.3, penalised=late)[:20]
    base = pd.DataFrame({"query_id": [f"q{i}" for i in range(500) for _ in range(20)],
                         "true": np.random.default_rng(0).normal(size=10_000)})  # fmt: skip
    found = known_sweep.measures(rows, pd.concat([own, theirs, free]), base)
    assert found["known.reward_at_kl.small"]["value"] == pytest.approx(3.0, abs=0.02)
    assert found["known.reward_at_kl.direct"]["value"] == pytest.approx(3.25, abs=0.02)
    assert found["known.reward_at_kl.optimum"]["value"] == pytest.approx(np.sqrt(2), abs=0.05)
    assert found["known.beta_0.positive_share"]["value"] == 1.0 and found["known.beta_0.positive_share"]["n"] == 9
    assert found["known.beta_0.loglik_drop"]["value"] == pytest.approx(3.0)
    early = found["known.proxy_minus_true.early"]["value"]
    true = theirs[theirs["target"] == 8.0]["true"].mean()
    assert early == pytest.approx(2.0 / 2.0 - (true - 1.0) / 0.5, abs=1e-6)
    true = unpunished[1]["true"].mean()
    assert found["known.proxy_minus_true.final"]["value"] == pytest.approx(6.0 / 2.0 - (true - 1.0) / 0.5, abs=1e-6)
    assert "known.reward_at_kl.large" not in found


def test_one_policy_is_held_against_the_optimum_where_that_is_trusted():
    base = np.random.default_rng(0).normal(size=(500, 20))
    row = {"true": 1.0, "true_se": 0.1, "kl": 1.0, "prompts": 500}
    found = known_sweep.measures_of_one(row, base)
    assert found["known.reward_at_kl.direct"]["high"] == pytest.approx(1.196)
    assert found["known.reward_at_kl.optimum"]["low"] < np.sqrt(2) < found["known.reward_at_kl.optimum"]["high"] + 0.1
    assert "known.reward_at_kl.optimum" not in known_sweep.measures_of_one(row | {"kl": 9.0}, base)


def test_curves_of_long_and_short_runs_have_as_many_points():
    far = pd.DataFrame({"source": "small", "target": 20.0, "episodes": [8], "known/true": [9.0]})
    one = pd.DataFrame({"source": "direct", "target": 8.0, "episodes": np.arange(8, 801, 8), "known/true": 1.0})
    two = one.assign(**{"known/true": 3.0})  # another seed
    short = pd.DataFrame({"source": "this run", "target": 8.0, "episodes": [8, 16], "known/true": [0.0, 2.0]})
    found = known_sweep.by_episodes(pd.concat([far, one, two, short]))
    assert found["source"].value_counts().to_dict() == {"direct": 20, "this run": 2}
    assert (found[found["source"] == "direct"]["reward"] == 2.0).all()
    assert found[found["source"] == "this run"]["episodes"].tolist() == [8, 16]


def test_the_published_numbers_rank_as_the_paper_says():
    at_8 = {source: points[8] for source, points in known_sweep.PUBLISHED_AT_KL.items()}
    assert at_8["direct"] > at_8["large"] > at_8["middle"] > at_8["small"]
    assert len(known_sweep.published_frontier()) == 28
    assert all(list(points) == sorted(points) for points in known_sweep.PUBLISHED_BY_EPISODES.values())
