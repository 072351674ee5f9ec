"""The PPO of section 3.3 against closed forms, brute force and enumeration."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from core_models import STYLE, stream, tiny_lm

from rlhf_lib.errors import KitError
from rlhf_lib.policy import Policy
from rlhf_lib.ppo import (
    Rollout,
    advantages_and_returns,
    gae,
    make_rollout,
    next_kl_coef,
    ppo_loss,
    ppo_update,
    train_minibatch,
    train_ppo,
    whiten,
)
from rlhf_lib.profiles import PPOConfig
from rlhf_lib.training import StopTraining, TrainState, adam_step, make_adam, settings

CFG = PPOConfig(episodes=64, batch=16, lr=1e-3, kl_coef=0.1)


def count_low(query_ids, query_mask, response_ids, response_mask):
    """A known reward: share of tokens below 22, in standard deviations or so."""
    low = ((response_ids < 22) & response_mask).sum(1) / response_mask.sum(1)
    return (low - 0.35) * 4


def rollout_of(policy, reference, tokenizer, cfg=CFG, score=count_low, seed=0):
    return make_rollout(policy, reference, score, stream(tokenizer), cfg, torch.Generator().manual_seed(seed))[0]


def moved(policy, size=0.3):
    """The policy after a random step away from its reference."""
    torch.manual_seed(7)
    with torch.no_grad():
        for p in policy.lm.parameters():
            p += size * p.std().nan_to_num() * torch.randn_like(p)
    return policy


# ---- before the first update --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_ratio_is_one_and_kl_is_zero_before_the_first_update(tokenizer, kind):
    policy = Policy(tiny_lm(kind))
    reference = policy.frozen_copy()
    rollout = rollout_of(policy, reference, tokenizer)
    assert rollout.query_mask.float().mean() < 1  # there are pads
    assert rollout.kl.abs().max() < 1e-4
    # the independent forward: transformers alone, one unpadded row at a time, all logits
    with torch.no_grad():
        for i, m, r, old in zip(
            rollout.context_ids, rollout.context_mask, rollout.responses, rollout.logprobs, strict=True
        ):
            logits = policy.lm(torch.cat([i[m], r])[None]).logits[0, int(m.sum()) - 1 : -1] / STYLE.temperature
            new = torch.log_softmax(logits, -1).gather(1, r[:, None]).squeeze(1)
            assert torch.allclose((new - old).exp(), torch.ones(8), atol=1e-4)
    rows = []
    train_ppo(policy, reference, count_low, stream(tokenizer), CFG, [lambda s: rows.append(s.metrics)])
    assert rows[0]["ppo/policy/first_ratio_error"] < 1e-4
    assert abs(rows[0]["objective/kl"]) < 1e-4
    assert abs(rows[-1]["objective/kl"]) > 1e-3


# ---- KL ------------------------------------------------------------------------------------------------------


def test_mean_of_the_kl_estimator_is_the_exact_kl_sign_included():
    """Eight tokens, three positions: all 512 responses enumerated, against 10,000 samples."""
    policy = moved(Policy(tiny_lm(vocab=8)))
    reference = Policy(tiny_lm(vocab=8)).frozen_copy()
    prompt, temperature = torch.tensor([[1, 5, 2]]), 0.7
    everything = torch.tensor(list(itertools.product(range(8), repeat=3)))  # [512, 3]
    ids = prompt.expand(512, 3)
    mask = torch.ones_like(ids).bool()
    p, q = (m.logprobs(ids, mask, everything, temperature).double().sum(1) for m in (policy, reference))
    assert p.exp().sum().item() == pytest.approx(1.0, abs=1e-4)
    exact, reverse = (p.exp() * (p - q)).sum().item(), (q.exp() * (q - p)).sum().item()
    n = 10_000
    ids = prompt.expand(n, 3)
    mask = torch.ones_like(ids).bool()
    samples = policy.sample(ids, mask, 3, temperature, torch.Generator().manual_seed(0))
    ref = reference.logprobs(ids, mask, samples.responses, temperature, micro_batch=n)
    rollout = Rollout(ids, mask, ids, mask, *samples, ref, torch.zeros(n), torch.ones(n).bool())
    kl = rollout.kl.sum(1)
    error = kl.std().item() / math.sqrt(n)
    assert exact > 10 * error  # the estimator's sign would be seen
    assert abs(exact - reverse) > 10 * error  # and so would the direction
    assert abs(kl.mean().item() - exact) < 4 * error
    assert (kl < 0).any()  # k1 may be negative for single samples
    assert rollout.rewards(0.5).sum(1).mean().item() == pytest.approx(-0.5 * kl.mean().item(), abs=1e-5)


def tiny_rollout(n=6, length=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    ids = torch.zeros(n, 3, dtype=torch.long)
    return Rollout(
        ids,
        ids.bool(),
        ids,
        ids.bool(),
        torch.zeros(n, length, dtype=torch.long),
        rand(n, length),
        rand(n, length),
        rand(n, length),
        rand(n),
        torch.ones(n).bool(),
    )


def test_reward_is_minus_beta_kl_at_each_token_plus_the_score_at_the_last():
    rollout = tiny_rollout()
    rewards = rollout.rewards(0.3)
    for b in range(6):
        for t in range(5):
            expected = -0.3 * (rollout.logprobs[b, t] - rollout.ref_logprobs[b, t])
            expected = expected + (rollout.scores[b] if t == 4 else 0.0)
            assert rewards[b, t].item() == pytest.approx(expected.item(), abs=1e-6)


def test_flipped_signs_are_the_bug_of_the_post():
    """Score negated by the caller and beta negative: -r - beta*KL with both signs flipped is minus the true reward."""
    rollout = tiny_rollout()
    flipped = replace(rollout, scores=-rollout.scores)
    assert torch.allclose(flipped.rewards(-0.3), -rollout.rewards(0.3))


# ---- advantages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (1.0, 0.0)])
def test_gae_is_the_brute_force_sum(gamma, lam):
    rollout = tiny_rollout()
    rewards, values = rollout.rewards(0.2), rollout.values
    found = gae(rewards, values, gamma, lam)
    padded = torch.cat([values, torch.zeros(6, 1)], 1)  # terminal value 0
    for b in range(6):
        for t in range(5):
            deltas = [rewards[b, k] + gamma * padded[b, k + 1] - padded[b, k] for k in range(5)]
            total = sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, 5))
            assert found[b, t].item() == pytest.approx(total.item(), abs=1e-5)


def test_whitening_uses_the_biased_variance():
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)) * 3 + 5
    mean, var = x.mean(), ((x - x.mean()) ** 2).sum() / 24
    assert torch.allclose(whiten(x), (x - mean) / (var + 1e-8).sqrt(), atol=1e-5)
    assert torch.allclose(whiten(x, shift_mean=False), (x - mean) / (var + 1e-8).sqrt() + mean, atol=1e-5)
    assert whiten(torch.ones(3, 3)).abs().max() == 0  # eps: nothing to divide by, nothing explodes


def test_rewards_then_gae_then_returns_then_advantages():
    rollout = tiny_rollout()
    advantages, returns = advantages_and_returns(rollout, 0.2, CFG)
    raw = gae(whiten(rollout.rewards(0.2), shift_mean=False), rollout.values, 1.0, 0.95)
    assert torch.allclose(returns, raw + rollout.values)  # before the advantages are whitened
    assert torch.allclose(advantages, whiten(raw))
    _, plain = advantages_and_returns(rollout, 0.2, replace(CFG, whiten_rewards=False))
    assert torch.allclose(plain, gae(rollout.rewards(0.2), rollout.values, 1.0, 0.95) + rollout.values)


def test_whitening_over_two_processes_is_whitening_over_both_halves():
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    halves = [x[:4], x[4:] * 1.0]
    means = iter([x.mean(), ((x - x.mean()) ** 2).mean()] * 2)
    both = torch.cat([whiten(half, sync=lambda t: next(means)) for half in halves])
    assert torch.allclose(both, whiten(x), atol=1e-6)


# ---- losses --------------------------------------------------------------------------------------------------


def scalar_loss(logp, value, old_logp, old_value, advantage, ret):
    """The two losses of one token, in plain Python."""
    ratio = math.exp(logp - old_logp)
    policy = max(-advantage * ratio, -advantage * min(max(ratio, 0.8), 1.2))
    near = old_value + min(max(value - old_value, -0.2), 0.2)
    return policy, 0.5 * max((value - ret) ** 2, (near - ret) ** 2)


def test_losses_by_hand_token_by_token():
    g = torch.Generator().manual_seed(1)
    tensors = [torch.randn(3, 4, generator=g) * 0.4 for _ in range(6)]
    loss, stats = ppo_loss(*tensors, CFG)
    by_hand = [scalar_loss(*(x[b, t].item() for x in tensors)) for b in range(3) for t in range(4)]
    policy, value = (sum(column) / 12 for column in zip(*by_hand, strict=True))
    assert stats["ppo/loss/policy"].item() == pytest.approx(policy, abs=1e-6)
    assert stats["ppo/loss/value"].item() == pytest.approx(value, abs=1e-6)
    assert loss.item() == pytest.approx(policy + 0.1 * value, abs=1e-6)
    log_ratio = tensors[0] - tensors[2]
    assert stats["ppo/policy/approxkl"].item() == pytest.approx(0.5 * (log_ratio**2).mean().item(), abs=1e-6)
    assert 0 < stats["ppo/policy/clipfrac"] < 1


def test_adam_with_tensorflows_epsilon_against_the_closed_form():
    g = torch.Generator().manual_seed(0)
    start = torch.randn(5, generator=g)
    parameter = torch.nn.Parameter(start.clone())
    optimizer = make_adam([parameter], 0.01)
    x, m, v, eps = start.double(), torch.zeros(5).double(), torch.zeros(5).double(), 1e-3
    for step in range(1, 8):
        gradient = torch.randn(5, generator=g) * 1e-3
        parameter.grad = gradient.clone()
        adam_step(optimizer, 0.01, eps, step)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient.double() ** 2
        x = x - 0.01 * math.sqrt(1 - 0.999**step) / (1 - 0.9**step) * m / (v.sqrt() + eps)  # eps-hat
        assert torch.allclose(parameter.detach().double(), x, atol=1e-7)
    torch_eps = torch.nn.Parameter(start.clone())
    plain = torch.optim.Adam([torch_eps], lr=0.01, eps=eps)
    torch_eps.grad = gradient
    plain.step()
    assert (torch_eps - start).abs().mean() > 1.5 * 0.01 * eps / (eps + 1)  # the test could tell the two apart


@pytest.mark.parametrize("minibatches", [1, 2])
def test_micro_batches_are_exact(tokenizer, minibatches):
    results = []
    for micro in (16, 3):
        policy = moved(Policy(tiny_lm()), 0.05)
        reference = Policy(tiny_lm()).frozen_copy()
        cfg = replace(CFG, micro_batch=micro, minibatches=minibatches, episodes=16, adam_eps=1e-2)
        rows = []
        train_ppo(policy, reference, count_low, stream(tokenizer), cfg, [lambda s, rows=rows: rows.append(s.metrics)])
        results.append((policy.state_dict(), rows[0]))
    (a, row_a), (b, row_b) = results
    assert all(torch.allclose(a[k], b[k], atol=2e-5) for k in a)
    for name in row_a:
        if not name.startswith("time/"):
            assert row_a[name] == pytest.approx(row_b[name], abs=1e-4), name


def test_gradient_of_one_minibatch_is_that_of_the_whole_loss(tokenizer):
    policy = moved(Policy(tiny_lm()), 0.05)
    rollout = rollout_of(policy, Policy(tiny_lm()).frozen_copy(), tokenizer)
    train_minibatch(policy, None, rollout, 0.1, replace(CFG, micro_batch=5), 0.7, None)
    accumulated = {k: p.grad.clone() for k, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad()
    advantages, returns = advantages_and_returns(rollout, 0.1, CFG)
    logprobs, values = policy(rollout.context_ids, rollout.context_mask, rollout.responses, 0.7)
    ppo_loss(logprobs, values, rollout.logprobs, rollout.values, advantages, returns, CFG)[0].backward()
    for k, p in policy.named_parameters():
        if p.grad is not None:
            assert torch.allclose(accumulated[k], p.grad, atol=1e-5), k
    assert policy.value_head.weight.grad.abs().sum() > 0  # one trunk: both heads reach it
    assert policy.lm.transformer.wte.weight.grad.abs().sum() > 0


def test_memory_of_logits_is_one_micro_batch(tokenizer):
    policy = Policy(tiny_lm())
    shapes = []
    policy.lm.lm_head.register_forward_hook(lambda module, args, out: shapes.append(out.shape))
    rollout = rollout_of(policy, policy.frozen_copy(), tokenizer, replace(CFG, micro_batch=4))
    shapes.clear()
    train_minibatch(policy, None, rollout, 0.1, replace(CFG, micro_batch=4), 0.7, None)
    assert shapes == [(4, 8, 64)] * 4


# ---- controller ----------------------------------------------------------------------------------------------


def test_adaptive_controller_by_hand():
    cfg = replace(CFG, kl_target=6.0)
    assert next_kl_coef(0.15, 6.0, cfg, 512) == 0.15
    assert next_kl_coef(0.15, 6.6, cfg, 512) == pytest.approx(0.15 * (1 + 0.1 * 0.0512))
    assert next_kl_coef(0.15, 60.0, cfg, 512) == pytest.approx(0.15 * (1 + 0.2 * 0.0512))  # clipped
    assert next_kl_coef(0.15, -3.0, cfg, 512) == pytest.approx(0.15 * (1 - 0.2 * 0.0512))
    assert next_kl_coef(-0.15, 60.0, CFG, 512) == -0.15  # no target: fixed, and may be negative


def test_controller_is_fed_the_sum_over_the_sequence_after_the_update(tokenizer):
    """A per-token mean would be 8 times smaller and fall below this target."""
    policy, reference = moved(Policy(tiny_lm()), 0.2), Policy(tiny_lm()).frozen_copy()
    rollout = rollout_of(policy, reference, tokenizer)
    kl = rollout.kl.sum(1).mean().item()
    assert kl > 0.5
    rows, coefs = [], []
    cfg = replace(CFG, episodes=32, kl_target=kl / 2, kl_horizon=100.0)
    train_ppo(
        policy,
        reference,
        count_low,
        stream(tokenizer),
        cfg,
        [lambda s: (rows.append(s.metrics), coefs.append(s.extra["kl_coef"]))],
        seed=0,
    )
    assert rows[0]["objective/kl"] == pytest.approx(kl, abs=1e-4)
    assert rows[0]["objective/kl_coef"] == 0.1  # what the update used
    assert coefs[0] == pytest.approx(0.1 * (1 + 0.2 * 16 / 100))
    assert rows[1]["objective/kl_coef"] == coefs[0]


# ---- the loop ------------------------------------------------------------------------------------------------


def test_score_function_sees_truncated_text_without_prefix_and_penalty_replaces(tokenizer):
    text = replace(STYLE, prefix="P:", suffix=":S")
    queries, seen = stream(tokenizer, text), []
    policy = Policy(tiny_lm())

    def score(*args):
        seen.append(args)
        return torch.full((len(args[0]),), 3.0)

    rollout, _ = make_rollout(policy, policy.frozen_copy(), score, queries, CFG, torch.Generator().manual_seed(0))
    query_ids, query_mask, response_ids, response_mask = seen[0]
    again = stream(tokenizer, text).next(16)
    assert torch.equal(query_ids, again[0])
    assert torch.equal(query_mask, again[1])
    assert rollout.context_ids.shape[1] == 12 + 4  # the policy read prefix and suffix
    cut, mask = queries.task.truncate(rollout.responses)
    assert torch.equal(response_ids, cut)
    assert torch.equal(response_mask, mask)
    passes = queries.task.passes(rollout.responses)
    assert rollout.scores.tolist() == [3.0 if p else -1.0 for p in passes]


def test_learning_rate_falls_linearly_over_updates(tokenizer):
    policy, rows = Policy(tiny_lm()), []
    train_ppo(policy, policy.frozen_copy(), count_low, stream(tokenizer), CFG, [lambda s: rows.append(s.metrics)])
    assert [r["ppo/lr"] for r in rows] == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])
    assert [r["episodes"] for r in rows] == [16, 32, 48, 64]


@pytest.fixture(scope="module")
def no_penalty():
    """Truncation at a token that may come anywhere, so that the known reward is what counts."""
    return replace(STYLE, truncate_after=7, penalty=0.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ppo_raises_the_score_and_flipping_its_sign_lowers_it(tokenizer, no_penalty, sign):
    policy, rows = Policy(tiny_lm()), []
    cfg = PPOConfig(episodes=64 * 12, batch=64, lr=3e-3, kl_coef=0.02)
    queries = stream(tokenizer, no_penalty)
    raw = []

    def score(*args):
        raw.append(count_low(*args).mean().item())
        return sign * count_low(*args)

    queries.task.penalise = lambda scores, responses: scores
    train_ppo(policy, policy.frozen_copy(), score, queries, cfg, [lambda s: rows.append(s.metrics)])
    gain = sum(raw[-3:]) / 3 - raw[0]
    assert sign * gain > 0.3
    assert rows[-1]["objective/score"] > rows[0]["objective/score"] + 0.3


def test_larger_beta_keeps_the_policy_nearer(tokenizer):
    ends = []
    for beta in (0.0, 1.0):
        policy, rows = Policy(tiny_lm()), []
        cfg = PPOConfig(episodes=64 * 12, batch=64, lr=1e-3, kl_coef=beta)
        callback = lambda s, rows=rows: rows.append(s.metrics["objective/kl"])  # noqa: E731
        train_ppo(policy, policy.frozen_copy(), count_low, stream(tokenizer), cfg, [callback])
        ends.append(rows[-1])
    assert ends[0] > 3 * ends[1]


@pytest.mark.parametrize("raises", [True, False])
def test_a_callback_can_stop_and_all_others_still_run(tokenizer, raises):
    class Last:
        calls, stops = 0, 0

        def __call__(self, state):
            self.calls += 1

        def on_stop(self, state):
            self.stops += 1

    def cord(state):
        if state.step == 2:
            if raises:
                raise StopTraining("the text is bad")
            return StopTraining("the text is bad")

    policy, last = Policy(tiny_lm()), Last()
    state = train_ppo(policy, policy.frozen_copy(), count_low, stream(tokenizer), CFG, [cord, last])
    assert (state.step, state.stopped, last.calls, last.stops) == (2, "the text is bad", 2, 1)


def test_callbacks_get_samples_and_metrics_of_the_table(tokenizer):
    from rlhf_lib.metrics import METRICS

    policy, states = Policy(tiny_lm()), []
    cfg = replace(CFG, episodes=16)
    train_ppo(policy, policy.frozen_copy(), count_low, stream(tokenizer), cfg, [lambda s: states.append(dict(s.data))])
    assert states[0]["responses"].shape == (16, 8)
    rows = []
    train_ppo(policy, policy.frozen_copy(), count_low, stream(tokenizer), cfg, [lambda s: rows.append(s.metrics)])
    assert set(rows[0]) <= {m.name for m in METRICS}
    assert rows[0]["objective/penalised"] == pytest.approx(1 - states[0]["passes"].float().mean().item(), abs=0.5)


def test_reference_is_left_alone(tokenizer):
    policy = Policy(tiny_lm())
    reference = policy.frozen_copy()
    before = {k: v.clone() for k, v in reference.state_dict().items()}
    train_ppo(policy, reference, count_low, stream(tokenizer), CFG)
    assert all(torch.equal(v, before[k]) for k, v in reference.state_dict().items())
    assert any(not torch.equal(v, before[k]) for k, v in policy.state_dict().items())


def test_bad_settings_and_scores_are_sentences(tokenizer):
    policy = Policy(tiny_lm())
    run = lambda cfg, score=count_low: train_ppo(  # noqa: E731
        policy, policy.frozen_copy(), score, stream(tokenizer), cfg
    )
    with pytest.raises(KitError, match="do not divide"):
        run(replace(CFG, episodes=8))
    with pytest.raises(KitError, match="do not divide"):
        run(replace(CFG, minibatches=3))
    with pytest.raises(KitError, match="resolve_kl_target"):
        run(replace(CFG, kl_target_share=0.2))
    with pytest.raises(KitError, match="one number for each"):
        run(CFG, lambda *args: torch.zeros(16, 8))
    before = {k: v.clone() for k, v in policy.state_dict().items()}
    with pytest.raises(KitError, match="NaN"):
        run(CFG, lambda *args: torch.full((16,), float("nan")))
    assert all(torch.equal(v, before[k]) for k, v in policy.state_dict().items())  # before the weights were touched


def test_update_from_stored_rollouts_is_deterministic(tokenizer):
    ends = []
    for _ in range(2):
        policy = moved(Policy(tiny_lm()), 0.05)
        rollout = rollout_of(policy, Policy(tiny_lm()).frozen_copy(), tokenizer)
        state = TrainState(
            policy,
            make_adam(policy.parameters(), 1e-3),
            torch.Generator().manual_seed(0),
            settings(CFG),
            4,
            extra={"kl_coef": 0.1, "adam_steps": 0},
        )
        ppo_update(policy, rollout, state, CFG, 0.7, None)
        assert state.extra["adam_steps"] == 4
        ends.append(policy.state_dict())
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])
