"""Any causal LM: GPT-2, Llama and Qwen types against plain transformers calls, left-padded in one batch and alone."""

import pytest
import torch
from core_models import VOCAB, tiny_lm, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_lib.policy import Policy
from rlhf_lib.reward import RewardModel

KINDS = ("gpt2", "llama", "qwen2")


def prompts(padded):
    """Five prompts of nine columns, without the pad's id 0 among their tokens; real lengths 3 to 9 if padded."""
    ids = torch.randint(1, VOCAB, (5, 9), generator=torch.Generator().manual_seed(3))
    lengths = torch.tensor([3, 9, 4, 7, 5]) if padded else torch.full((5,), 9)
    mask = torch.arange(9)[None] >= 9 - lengths[:, None]
    return ids.masked_fill(~mask, 0), mask


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_policy_gives_a_plain_batch_the_same_log_probabilities(kind, padded, tmp_path):
    policy = Policy(tiny_lm(kind))
    ids, mask = prompts(padded)
    drawn = policy.sample(ids, mask, 8, 0.7, torch.Generator().manual_seed(1))
    plain = AutoModelForCausalLM.from_pretrained(policy.save(tmp_path / "p", tiny_tokenizer()))
    whole = torch.cat([ids, drawn.responses], 1)
    seen = torch.cat([mask, torch.ones_like(drawn.responses).bool()], 1).long()
    with torch.no_grad():
        logits = plain(whole, attention_mask=seen, position_ids=(seen.cumsum(1) - 1).clamp(min=0)).logits[:, 8:-1]
    logp = torch.log_softmax(logits / 0.7, -1).gather(2, drawn.responses[:, :, None]).squeeze(2)
    assert torch.allclose(drawn.logprobs, logp, atol=1e-4)
    assert torch.allclose(policy.logprobs(ids, mask, drawn.responses, 0.7), logp, atol=1e-4)
    assert logp.std() > 0.3


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sampling_in_its_greedy_limit_is_plain_generate(kind, padded):
    policy = Policy(tiny_lm(kind))
    ids, mask = prompts(padded)
    mine = policy.sample(ids, mask, 8, 1e-4, torch.Generator().manual_seed(1)).responses
    policy.lm.generation_config.eos_token_id = None  # end-of-text is a token like any other
    plain = policy.lm.generate(ids, attention_mask=mask.long(), max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert torch.equal(mine, plain[:, 9:])


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_reward_model_scores_alike_in_transformers(kind, padded, tmp_path):
    lm, tokenizer = tiny_lm(kind), tiny_tokenizer()
    model = RewardModel(lm.base_model, torch.Generator().manual_seed(0)).requires_grad_(False)
    model.gain.fill_(0.37)
    model.bias.fill_(1.9)
    ids, mask = prompts(padded)
    plain = AutoModelForSequenceClassification.from_pretrained(model.save(tmp_path / "rm", tokenizer, lm.config))
    with torch.no_grad():
        scores = plain(ids, attention_mask=mask.long(), position_ids=(mask.long().cumsum(1) - 1).clamp(min=0)).logits
    assert torch.allclose(model(ids, mask), scores.squeeze(1) + plain.config.reward_bias, atol=1e-5)
