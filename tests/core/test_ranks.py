"""Several processes, with whole models and with split ones (FSDP): the same update as one process, disjoint queries,
one decision, killed and resumed."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_lib.errors import KitError
from rlhf_lib.ranks import FirstDecides, Ranks
from rlhf_lib.training import StopTraining

HERE = Path(__file__).parent


def labels(n=64):
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    rows = []
    for i in range(n):
        samples = ["".join(rng.choice(letters) for _ in range(7)) + "." for _ in range(4)]
        rows.append(
            {"query": f"query {i % 20}.", "best": rng.randrange(4)} | {f"sample{k}": s for k, s in enumerate(samples)}
        )
    return rows


@pytest.fixture(scope="module", params=["DDP", "FSDP"])
def runs(tmp_path_factory, request):
    """All scenarios of rank_runs.py: (folder, how each rank of each run ended, what they said)."""
    root = tmp_path_factory.mktemp(request.param)
    (root / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels()))
    env = os.environ | {"PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / "rank_runs.py"), str(root), request.param],
        env=env, capture_output=True, text=True, timeout=560,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return root, json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_two_times_32_stored_rollouts_give_the_update_of_64(runs):
    root, ends, said = runs
    assert (ends["one"], ends["two"]) == ([0], [0, 0]), said[-2000:]
    one = torch.load(root / "update_1_0.pt")
    two = [torch.load(root / f"update_2_{rank}.pt") for rank in (0, 1)]
    assert all(torch.equal(two[0]["weights"][k], two[1]["weights"][k]) for k in one["weights"])
    start = torch.load(root / "update_1_0.pt")["weights"]
    assert one["metrics"].keys() == two[0]["metrics"].keys()
    for name, value in one["metrics"].items():
        assert two[0]["metrics"][name] == pytest.approx(value, abs=1e-5), name
    assert one["metrics"]["next_kl_coef"] != 0.1 and abs(one["metrics"]["objective/kl"]) > 0.1
    # Adam's first steps are about lr whatever the gradient's size, so that rounding shows where gradients are near 0
    apart = torch.cat([(start[k] - two[0]["weights"][k]).flatten().abs() for k in start])
    assert apart.max() < 1e-3 and apart.mean() < 1e-6, (apart.max(), apart.mean())


def numbers(parts) -> int:
    """How many numbers some tensors hold."""
    return sum(part.numel() for part in parts)


def test_with_fsdp_a_rank_holds_half_of_weights_and_moments(runs):
    root, *_ = runs
    one, *two = [torch.load(root / f"update_{name}.pt")["moments"] for name in ("1_0", "2_0", "2_1")]
    saved = [torch.load(root / f"whole/checkpoint/rank{rank}/state.pt", weights_only=True) for rank in (0, 1)]
    if root.name.startswith("DDP"):
        assert two == [one, one] and "model" not in saved[1]
        return
    assert max(two) < 0.55 * one  # vectors are not split
    halves, whole = [numbers(state["model"].values()) for state in saved], numbers(weights(root / "whole").values())
    assert max(halves) < 0.55 * whole


def test_split_policies_sample_score_and_learn_as_whole_ones(runs):
    root, ends, said = runs
    if "policies" not in ends:
        return  # DDP splits nothing
    assert ends["policies"] == [0, 0], said[-2000:]
    for rank in (0, 1):
        found = torch.load(root / f"policies_{rank}.pt")
        assert {kind for kind, _, _ in found} == {"gpt2", "llama", "qwen2"}
        for kind, again, split in found:
            (drawn, logprobs, states, gradients), theirs = found[kind, again, split], found[kind, again, False]
            assert torch.equal(drawn, theirs[0])
            torch.testing.assert_close([logprobs, states], theirs[1:3], atol=1e-5, rtol=1e-5)
            assert gradients.keys() == theirs[3].keys()
            for name, gradient in gradients.items():
                torch.testing.assert_close(gradient.detach(), theirs[3][name], atol=1e-5, rtol=1e-4, msg=name)


def test_supervised_and_reward_models_open_in_transformers(runs):
    root, ends, said = runs
    assert (ends["supervised"], ends["reward"]) == ([0, 0], [0, 0]), said[-2000:]
    AutoModelForCausalLM.from_pretrained(root / "supervised/policy")
    AutoModelForSequenceClassification.from_pretrained(root / "reward/reward")
    report = json.loads((root / "reward/reward/report.json").read_text())
    assert report["processes"] == 2 and report["train"] + report["heldout"] == 64
    rows = [json.loads(line) for line in (root / "supervised/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]  # 33 pairs: 16 on each rank, in batches of 4
    assert rows[-1]["sft/loss"] < rows[0]["sft/loss"]


def test_ranks_see_disjoint_queries_and_draw_different_samples(runs):
    root, ends, said = runs
    assert ends["whole"] == [0, 0], said[-2000:]
    (first, second) = (json.loads((root / f"ppo_{rank}.json").read_text()) for rank in (0, 1))
    asked = [{tuple(q) for queries, _ in rank for q in queries} for rank in (first, second)]
    assert asked[0] and not asked[0] & asked[1]
    assert all(a[1] != b[1] for a, b in zip(first, second, strict=True))


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder / "policy").state_dict()


def test_killed_and_resumed_is_the_uninterrupted_run(runs):
    root, ends, said = runs
    rows = [json.loads(line) for line in (root / "whole/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6] and rows[-1]["episodes"] == 48
    assert len({row["objective/kl_coef"] for row in rows}) == 6
    for name in ("killed3", "killed4"):
        assert -9 in ends[name][:2] and ends[name][2:] == [0, 0], said[-2000:]
        resumed = [json.loads(line) for line in (root / name / "metrics.jsonl").read_text().splitlines()]
        same = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in resumed]
        assert same == [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]
        ours, theirs = weights(root / name), weights(root / "whole")
        assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


class OneRank:
    """What Ranks asks of an accelerator, for a single process."""

    process_index, num_processes, is_main_process, device = 0, 1, True, torch.device("cpu")


def test_a_single_process_needs_no_means_and_shares_everything():
    ranks = Ranks(OneRank())
    assert ranks.sync is None and ranks.seed(7) == 7 and ranks.tell("x") == "x" and ranks.all(3) == [3]
    assert ranks.share([1, 2, 3]) == [1, 2, 3] and ranks.split(8, "b") == 8


def test_shares_are_disjoint_and_equal_and_bad_ones_are_sentences():
    ranks = [Ranks(OneRank()) for _ in range(3)]
    for number, r in enumerate(ranks):
        r.rank, r.world = number, 3
    shares = [r.share(list(range(11))) for r in ranks]
    assert [len(s) for s in shares] == [3, 3, 3] and len({i for s in shares for i in s}) == 9
    assert len({r.seed(1) for r in ranks}) == 3
    with pytest.raises(KitError, match=r"ppo\.batch = 8 does not divide over 3"):
        ranks[0].split(8, "ppo.batch")
    with pytest.raises(KitError, match="2 examples are too few for 3 processes"):
        ranks[0].share([1, 2])


def test_the_first_rank_decides_for_all():
    def pulled(state):
        raise StopTraining("Somebody pulled the cord.")

    assert str(FirstDecides(pulled, Ranks(OneRank()))(None)) == "Somebody pulled the cord."
    assert FirstDecides(lambda state: None, Ranks(OneRank()))(None) is None
    other = Ranks(OneRank())
    other.is_first, other.tell = False, lambda value: "Somebody pulled the cord."
    assert isinstance(FirstDecides(None, other)(None), StopTraining)
