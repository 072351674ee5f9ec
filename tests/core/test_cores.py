"""Micro-batches side by side: the same numbers as one after another, in the same order, and the threads put back."""

import copy
import threading
import time
from dataclasses import replace

import pytest
import torch
from core_models import STYLE, stream, tiny_lm

from rlhf_lib import cores
from rlhf_lib.cores import rows_at_once, side_by_side, workers_for
from rlhf_lib.picks import encode_labels
from rlhf_lib.policy import Policy
from rlhf_lib.ppo import make_rollout, train_minibatch
from rlhf_lib.profiles import PPOConfig, RewardConfig
from rlhf_lib.reward import RewardModel, _reward_step
from rlhf_lib.tasks import Task
from rlhf_lib.training import TrainState, make_adam


@pytest.fixture
def four_threads():
    """Four threads for torch, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_workers_divide_the_micro_batches_and_the_cores(four_threads, monkeypatch):
    model = torch.nn.Linear(3, 3)
    assert [workers_for(model, parts) for parts in (1, 2, 3, 4, 6, 8)] == [1, 2, 1, 4, 2, 4]
    monkeypatch.setattr(cores, "SMALL", 11)  # its 12 parameters are too many
    assert workers_for(model, 4) == 1
    assert workers_for(torch.nn.Linear(1, 1, device="meta"), 4) == 1  # as on any device but the CPU


def test_a_batch_is_shared_out_to_all_cores_in_micro_batches_of_no_more_than_asked(four_threads, monkeypatch):
    model = torch.nn.Linear(3, 3)
    assert [rows_at_once(model, rows, 64) for rows in (1, 4, 8, 9, 400)] == [1, 1, 2, 3, 64]
    monkeypatch.setattr(cores, "SMALL", 11)
    assert rows_at_once(model, 8, 64) == 64  # a large model's batch stays whole


def test_work_runs_at_once_in_the_order_of_its_parts_and_the_threads_are_put_back(four_threads):
    both = threading.Barrier(2, timeout=30)  # broken, and an error, unless two wait at it at the same time

    def work(part):
        both.wait()
        time.sleep(0.02 * (4 - part))
        return part, torch.get_num_threads(), torch.is_grad_enabled()

    with torch.no_grad():
        assert list(side_by_side(work, range(4), 2)) == [(part, 2, False) for part in range(4)]
    assert list(side_by_side(work, range(2), 2)) == [(0, 2, True), (1, 2, True)]
    assert torch.get_num_threads() == 4


def test_the_error_of_a_part_is_raised_and_the_threads_are_put_back(four_threads):
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda part: 1 / part, [1, 0, 1, 1], 2))
    assert torch.get_num_threads() == 4


def test_few_results_are_kept_however_many_parts_there_are(four_threads):
    begun, ahead = [], []
    for taken, _ in enumerate(side_by_side(begun.append, range(40), 2)):
        ahead.append(len(begun) - taken)
    assert len(begun) == 40 and max(ahead) <= 3 + 1  # the workers', and the one that waits for them


def test_a_minibatch_side_by_side_has_the_gradient_of_one_after_another(tokenizer, four_threads, monkeypatch):
    policy = Policy(tiny_lm())
    cfg = PPOConfig(16, 16, 1e-3, 0.1, micro_batch=2)  # eight micro-batches
    score = lambda q, qm, r, rm: r.float().mean(1)  # noqa: E731
    reference = policy.frozen_copy()
    rollout = make_rollout(policy, reference, score, stream(tokenizer), cfg, torch.Generator().manual_seed(0))[0]
    other = replace(rollout, logprobs=rollout.logprobs - 0.1)

    def learned():
        mine = copy.deepcopy(policy)
        stats, spread = train_minibatch(mine, None, other, 0.1, cfg, STYLE.temperature, None)
        return [p.grad for p in mine.parameters()], stats, spread

    used = []
    pool = cores._pool
    monkeypatch.setattr(
        cores, "_pool", lambda workers, threads: used.append((workers, threads)) or pool(workers, threads)
    )
    gradients, stats, spread = learned()
    again = learned()[0]
    assert used == [(4, 1), (4, 1)]
    monkeypatch.setattr(cores, "SMALL", 0)
    alone, alone_stats, alone_spread = learned()
    assert len(used) == 2
    for mine, twice, wanted in zip(gradients, again, alone, strict=True):
        assert torch.equal(mine, twice)  # bit for bit, whichever was ready first
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-6)
    assert spread == pytest.approx(float(alone_spread), rel=1e-4)
    assert {k: float(v) for k, v in stats.items()} == pytest.approx(
        {k: float(v) for k, v in alone_stats.items()}, rel=1e-4
    )


def test_a_step_of_the_reward_fit_side_by_side_is_that_of_the_whole_batch(tokenizer, four_threads, monkeypatch):
    task = Task("sentiment", STYLE, tokenizer)
    letters = "abcdefghijklmnop"
    rows = [
        {
            "query": letters[: 2 + k % 5],
            "responses": [letters[k + j : k + j + 4] + "." for j in range(4)],
            "best": k % 4,
        }
        for k in range(8)
    ]
    data = encode_labels(rows, task)[0]
    start = RewardModel(tiny_lm().base_model, torch.Generator().manual_seed(0))

    def stepped():
        model = copy.deepcopy(start)
        state = TrainState(model, make_adam(model.parameters(), 1e-3), torch.Generator(), {}, total=1)
        row = _reward_step(state, data, RewardConfig(8, 8, 1e-3), None)
        return row, [p.detach() for p in model.parameters()]

    (row, mine), (_, again) = stepped(), stepped()
    monkeypatch.setattr(cores, "SMALL", 0)
    wanted_row, wanted = stepped()
    assert row == pytest.approx(wanted_row, rel=1e-5)
    assert any(not torch.equal(a, b) for a, b in zip(mine, start.parameters(), strict=True))
    for a, twice, b in zip(mine, again, wanted, strict=True):
        assert torch.equal(a, twice)  # bit for bit
        # Adam's first step is the learning rate whatever the gradient's size, so rounding shows where that is near 0
        assert ((a - b).abs() < 1e-5).float().mean() > 0.99


def test_rows_come_back_in_their_own_order_whatever_their_lengths():
    torch.manual_seed(0)
    policy = Policy(tiny_lm())
    reward = RewardModel(policy.frozen_copy().lm.base_model)
    ids, responses = torch.randint(1, 40, (20, 9)), torch.randint(1, 40, (20, 5))
    mask = torch.arange(9) >= torch.randint(0, 8, (20, 1))  # left pads
    ones = torch.ones_like(responses, dtype=torch.bool)
    with torch.no_grad():
        logprobs = torch.cat(
            [policy(i[None], m[None], r[None], 0.7)[0] for i, m, r in zip(ids, mask, responses, strict=True)]
        )
        scores = torch.cat(
            [
                reward(torch.cat([i, r])[None], torch.cat([m, o])[None])
                for i, m, r, o in zip(ids, mask, responses, ones, strict=True)
            ]
        )
    torch.testing.assert_close(policy.logprobs(ids, mask, responses, 0.7, micro_batch=6), logprobs)
    torch.testing.assert_close(reward.score(ids, mask, responses, ones, micro_batch=6), scores)
    torch.testing.assert_close(reward.score(ids, mask, responses, ones), scores)
