"""KL: estimators against the exact value where every response can be counted, and each known cause of a negative one.

A vocabulary of eight and responses of three tokens: 512 responses. The policy is a flattened, shaken copy of the
reference, as policies are that have kept their entropy.
"""

import math

import pytest
import torch
from core_models import tiny_lm

from rlhf_lib import kl
from rlhf_lib.errors import KitError
from rlhf_lib.policy import Policy

VOCAB, LENGTH, TEMPERATURE, N = 8, 3, 0.7, 20_000
PROMPT = torch.tensor([[1, 5, 2]])
ONES = torch.ones_like(PROMPT)


def flattened(reference: Policy, by: float = 0.5, shake: float = 0.02) -> Policy:
    """A copy whose logits are `by` times the reference's, and a little different."""
    policy, noise = reference.frozen_copy(), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in policy.lm.transformer.h.parameters():
            weight += shake * torch.randn(weight.shape, generator=noise)
        policy.lm.transformer.ln_f.weight *= by
        policy.lm.transformer.ln_f.bias *= by
    return policy


@pytest.fixture(scope="module")
def reference():
    return Policy(tiny_lm(vocab=VOCAB, seed=2)).frozen_copy()


@pytest.fixture(scope="module")
def policy(reference):
    return flattened(reference)


def counted(model: Policy, temperature: float = TEMPERATURE, **how) -> torch.Tensor:
    return kl.sequence_logprobs(model, PROMPT, ONES, LENGTH, temperature, **how)


def drawn(logprobs: torch.Tensor, n: int = N, seed: int = 0) -> torch.Tensor:
    """Indices [n] of responses drawn from their exact distribution."""
    return torch.multinomial(logprobs.exp(), n, replacement=True, generator=torch.Generator().manual_seed(seed))


def close(estimates: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether the mean of the estimates is within four standard errors of the exact value."""
    return abs(float(estimates.mean() - exact)) < 4 * float(estimates.std()) / math.sqrt(len(estimates))


# ---- what is exact ---------------------------------------------------------------------------------------------


def test_what_is_counted_is_a_distribution_and_the_one_that_the_kit_scores_with(policy):
    p = counted(policy)
    assert len(p) == VOCAB**LENGTH and p.exp().sum().item() == pytest.approx(1.0, abs=1e-9)
    responses = kl.all_sequences(VOCAB, LENGTH)
    ids = PROMPT.expand(len(responses), -1)
    scored = policy.logprobs(ids, torch.ones_like(ids), responses, TEMPERATURE).double().sum(1)
    assert torch.allclose(p, scored, atol=1e-4)
    with pytest.raises(KitError, match="smaller vocabulary"):
        kl.sequence_logprobs(policy, PROMPT, ONES, 6, TEMPERATURE)


def test_the_kits_sampler_draws_from_what_is_counted(policy):
    p = counted(policy)
    ids = PROMPT.expand(N, -1)
    made = policy.sample(ids, torch.ones_like(ids), LENGTH, TEMPERATURE, torch.Generator().manual_seed(1))
    place = (made.responses * torch.tensor([VOCAB**2, VOCAB, 1])).sum(1)
    seen = torch.bincount(place, minlength=len(p)) / N
    assert (seen - p.exp()).abs().max() < 4 * math.sqrt(0.25 / N)
    assert (seen - counted(policy, 1.0).exp()).abs().max() > 4 * math.sqrt(0.25 / N)  # it would notice


def test_exact_kl_against_torch_and_zero_only_for_the_same(policy, reference):
    p, q = counted(policy), counted(reference)
    by_torch = torch.nn.functional.kl_div(q, p, reduction="sum", log_target=True)
    assert kl.exact_kl(p, q).item() == pytest.approx(by_torch.item(), rel=1e-9)
    assert kl.exact_kl(p, p).item() == 0.0 and kl.exact_kl(p, q) > 0.05 < kl.exact_kl(q, p)


# ---- the three estimators, both ways round ----------------------------------------------------------------------


@pytest.mark.parametrize("forward", [True, False], ids=["policy to reference", "reference to policy"])
def test_k1_and_k3_are_unbiased_and_k2_is_not(policy, reference, forward):
    p, q = (counted(policy), counted(reference)) if forward else (counted(reference), counted(policy))
    exact, other = kl.exact_kl(p, q), kl.exact_kl(q, p)
    picked = drawn(p)
    k1, k2, k3 = kl.estimators(p[picked], q[picked])
    assert close(k1, exact) and close(k3, exact)
    assert not close(k1, other) and not close(k3, other)  # the direction is seen
    assert not close(k2, exact)  # far apart, k2 is off by much more than its noise
    assert close(k2, (p.exp() * 0.5 * (p - q) ** 2).sum())
    assert (k1 < 0).any() and (k2 >= 0).all() and (k3 >= -1e-12).all()
    assert k3.std() != k1.std()


def test_near_the_reference_k2_and_k3_are_the_quieter_ones(reference):
    p, q = counted(flattened(reference, by=0.97, shake=0.003)), counted(reference)
    exact = kl.exact_kl(p, q)
    picked = drawn(p)
    k1, k2, k3 = kl.estimators(p[picked], q[picked])
    assert k2.std() < k1.std() / 4 and k3.std() < k1.std() / 4
    assert k2.mean().item() == pytest.approx(exact.item(), rel=0.1)  # its bias is of higher order
    assert k3.mean().item() == pytest.approx(exact.item(), rel=0.1)


def test_sums_over_tokens_of_each_estimator_are_estimates_of_a_response(policy, reference):
    """k1 of a response is the sum of its tokens'; k3 is not, yet both sums have the right mean."""
    n = 8000
    ids = PROMPT.expand(n, -1)
    mask = torch.ones_like(ids)
    made = policy.sample(ids, mask, LENGTH, TEMPERATURE, torch.Generator().manual_seed(2))
    ref = reference.logprobs(ids, mask, made.responses, TEMPERATURE, micro_batch=n)
    tokens, whole = kl.estimators(made.logprobs, ref), kl.estimators(made.logprobs.sum(1), ref.sum(1))
    exact = kl.exact_kl(counted(policy), counted(reference))
    assert torch.allclose(tokens.k1.sum(1), whole.k1, atol=1e-5)
    assert not torch.allclose(tokens.k3.sum(1), whole.k3, atol=1e-2)
    for estimate in (tokens.k1.sum(1), tokens.k3.sum(1), whole.k1, whole.k3):
        assert close(estimate, exact)


# ---- negative KL, made on purpose --------------------------------------------------------------------------------


def test_one_equation_behind_all_of_them(policy, reference):
    q, a, b = counted(policy, 0.5), counted(policy), counted(reference)
    assert kl.mean_log_ratio(q, a, b).item() == pytest.approx((kl.exact_kl(q, b) - kl.exact_kl(q, a)).item(), abs=1e-9)


def test_top_k_sampling_makes_it_negative(policy, reference):
    """What the flatter policy gives more to, its tail, is never sampled; scored in full, the head speaks alone."""
    p, q, sampled = counted(policy), counted(reference), counted(policy, top_k=2)
    wrong = kl.mean_log_ratio(sampled, p, q)
    assert wrong < -0.05 < 0.05 < kl.exact_kl(p, q)
    picked = drawn(sampled)
    assert close((p - q)[picked], wrong)
    assert kl.mean_log_ratio(sampled, sampled, q) > 0  # the cure: score what was sampled


def test_temperature_in_one_place_only_makes_it_negative_even_before_training(reference):
    """The policy is the reference, its log-probabilities alone are not divided by the temperature: minus a KL."""
    sampled, forgotten = counted(reference), counted(reference, 1.0)
    wrong = kl.mean_log_ratio(sampled, forgotten, sampled)
    assert wrong.item() == pytest.approx(-kl.exact_kl(sampled, forgotten).item(), abs=1e-9) and wrong < -0.05
    assert close((forgotten - sampled)[drawn(sampled)], wrong)
    assert kl.mean_log_ratio(sampled, sampled, sampled) == 0.0


def test_temperature_in_sampling_only_makes_it_negative(policy, reference):
    """Both are scored at temperature 1, but the sampler was cooler: again the head alone is heard."""
    sampled, p, q = counted(policy, 0.3), counted(policy, 1.0), counted(reference, 1.0)
    wrong = kl.mean_log_ratio(sampled, p, q)
    assert wrong < -0.05 < 0.05 < kl.exact_kl(p, q)
    assert close((p - q)[drawn(sampled)], wrong)


def test_padding_on_the_wrong_side_makes_it_negative(reference):
    """A prompt padded at the right and read without its mask: the policy scores what it would never have said."""
    padded, mask = torch.cat([PROMPT, torch.zeros(1, 2, dtype=torch.long)], 1), torch.ones(1, 5)
    sampled = counted(reference)
    misread = kl.sequence_logprobs(reference, padded, mask, LENGTH, TEMPERATURE)
    wrong = kl.mean_log_ratio(sampled, misread, sampled)
    assert wrong < -0.05
    assert close((misread - sampled)[drawn(sampled)], wrong)
    # the cure: pads at the left, masked, positions that count real tokens
    left, seen = torch.cat([torch.zeros(1, 2, dtype=torch.long), PROMPT], 1), torch.tensor([[0, 0, 1, 1, 1]])
    right = kl.sequence_logprobs(reference, left, seen, LENGTH, TEMPERATURE)
    assert torch.allclose(right, sampled, atol=1e-5)
    unmasked = kl.sequence_logprobs(reference, left, mask, LENGTH, TEMPERATURE)
    assert kl.mean_log_ratio(sampled, unmasked, sampled) < -0.05


def test_the_wrong_order_of_arguments_makes_it_negative(policy, reference):
    p, q = counted(policy), counted(reference)
    picked = drawn(p)
    swapped = kl.estimators(q[picked], p[picked])  # samples of the policy, arguments as for the reference's
    assert close(swapped.k1, -kl.exact_kl(p, q)) and swapped.k1.mean() < -0.05
    assert not close(swapped.k3, kl.exact_kl(p, q)) and not close(swapped.k3, kl.exact_kl(q, p))  # hidden, not cured
