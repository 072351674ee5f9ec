"""Rows of tokens and of growing texts, against the sums and the single calls that they stand for."""

import numpy as np
import pandas as pd
import pytest
import torch
from core_models import STYLE, stream, tiny_lm

from rlhf_lib import ppo
from rlhf_lib.along import Along
from rlhf_lib.errors import KitError
from rlhf_lib.inspect_tokens import prefix_scores, token_rows, token_texts
from rlhf_lib.policy import Policy
from rlhf_lib.profiles import PPOConfig
from rlhf_lib.reward import RewardModel
from rlhf_lib.tasks import build_queries

BETA, BATCH, LENGTH = 0.3, 6, STYLE.response_length
CFG = PPOConfig(episodes=2 * BATCH, batch=BATCH, lr=1e-3, kl_coef=BETA, micro_batch=2)


def reward_model(kind="gpt2"):
    return RewardModel(tiny_lm(kind, seed=5).base_model, torch.Generator().manual_seed(1)).requires_grad_(False)


@pytest.fixture
def rollout(tokenizer, generator):
    policy = Policy(tiny_lm(seed=1))
    torch.nn.init.normal_(policy.value_head.weight, std=0.3)
    return ppo.make_rollout(policy, Policy(tiny_lm(seed=2)), reward_model().score, stream(tokenizer), CFG, generator)[0]


def test_tokens_sum_to_the_episode(rollout, task):
    rows = token_rows(rollout, task, BETA, CFG)
    sums = rows.groupby("episode")[["kl", "reward"]].sum()
    assert len(rows) == BATCH * LENGTH
    assert np.allclose(sums.kl, rollout.kl.sum(1), atol=1e-5)
    assert np.allclose(sums.reward, rollout.scores - BETA * rollout.kl.sum(1), atol=1e-5)
    assert np.allclose(rows.kl, rows.logprob - rows.ref_logprob)
    for i, group in rows.groupby("episode"):
        assert "".join(group.token) == task.decode(rollout.responses[i])
        assert "".join(group.token[group.read]) == task.decode(*(x[i] for x in task.truncate(rollout.responses)))
        assert group.position.tolist() == list(range(LENGTH))
        assert group.context.iloc[0] == task.decode(rollout.query_ids[i], rollout.query_mask[i])


def test_advantages_are_a_brute_force_sum_and_those_of_ppo(rollout, task):
    rows = token_rows(rollout, task, BETA, CFG)
    scaled = rollout.rewards(BETA).numpy()
    scaled = (scaled - scaled.mean()) / np.sqrt(scaled.var() + 1e-8) + scaled.mean()
    values = np.pad(rollout.values.numpy(), ((0, 0), (0, 1)))
    deltas = scaled + CFG.gamma * values[:, 1:] - values[:, :-1]
    decay = CFG.gamma * CFG.lam
    by_hand = [[sum(decay**k * d for k, d in enumerate(row[t:])) for t in range(LENGTH)] for row in deltas]
    assert np.allclose(rows.reward_scaled, scaled.ravel(), atol=1e-5)
    assert np.allclose(rows.advantage, np.ravel(by_hand), atol=1e-4)
    assert np.allclose(rows.push, ppo.advantages_and_returns(rollout, BETA, CFG)[0].flatten(), atol=1e-6)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_growing_text_scores_as_its_pieces_do_alone(kind, task):
    model, context, response = reward_model(kind), "the cat was.", "it goes"
    rows = prefix_scores(model, task, context, response)
    asked, answer = task.encode(context)[-STYLE.query_length :], task.encode(response)
    for end, score in enumerate(rows.score):
        ids = torch.tensor([asked + answer[:end]])
        assert score == pytest.approx(model(ids, torch.ones_like(ids)).item(), abs=1e-4)
    assert rows.added.sum() == pytest.approx(rows.score.iloc[-1], abs=1e-4)
    assert "".join(rows.token) == response and rows.token.iloc[0] == ""
    whole = build_queries([f"x.{context}"], task)
    ids = torch.tensor([answer])
    alone = model.score(whole.ids, whole.mask, ids, torch.ones_like(ids)).item()
    assert rows.score.iloc[-1] == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize(("context", "response"), [("", "it"), ("the cat.", ""), ("the cat.", "la " * 20)])
def test_a_text_that_cannot_be_scored_is_refused(context, response, task):
    with pytest.raises(KitError, match=r"write at least one word|shorten the response"):
        prefix_scores(reward_model(), task, context, response)


class Bytes:
    """A task whose tokens are the bytes of UTF-8."""

    def decode(self, ids):
        return bytes(ids).decode("utf-8", errors="replace")


@pytest.mark.parametrize("text", ["naïve – 日本", "plain", "half \ufffd", ""])
def test_pieces_of_characters_join_to_the_text(text):
    ids = text.encode()
    pieces = token_texts(Bytes(), ids)
    assert len(pieces) == len(ids) and "".join(pieces) == text


def test_a_training_that_is_looked_at_is_the_same_training(tokenizer, task, tmp_path):
    def train(*callbacks):
        policy = Policy(tiny_lm(seed=1))
        state = ppo.train_ppo(policy, Policy(tiny_lm(seed=1)), reward_model().score, stream(tokenizer), CFG, callbacks)
        return policy, state

    queries = build_queries(["a b c. the cat. on", "b c d. a dog ran. off"], task)
    watch = Along(tmp_path / "along.jsonl", Policy(tiny_lm(seed=1)), queries, task, looks=2)
    (watched, state), (alone, _) = train(watch), train()
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True))
    metrics = pd.DataFrame([state.metrics])
    rows = watch.rows(watched, metrics)
    assert rows.episodes.tolist() == [0, 0, BATCH, BATCH, 2 * BATCH, 2 * BATCH]
    assert rows.score.isna().tolist() == [True, True] + 4 * [False]
    (tmp_path / "along.jsonl").unlink()  # trained elsewhere: base and end, the same texts
    ends = watch.rows(watched, metrics)
    assert ends.response.tolist() == rows.response.tolist()[:2] + rows.response.tolist()[-2:]


def test_looks_after_the_checkpoint_are_made_again(tokenizer, task, tmp_path):
    queries = build_queries(["a b c. the cat. on"], task)
    watch = Along(tmp_path / "along.jsonl", Policy(tiny_lm()), queries, task, looks=4)

    class State:
        total, model = 4, Policy(tiny_lm(seed=3))

    for step in (1, 2, 3, 2, 3, 4):  # killed after 3, the checkpoint was at 1
        state = State()
        state.step, state.metrics = step, {"episodes": step * 10, "objective/kl": 0.1, "objective/score": 0.2}
        watch(state)
    assert watch.rows(State.model, pd.DataFrame([state.metrics])).episodes.tolist() == [0, 10, 20, 30, 40]
