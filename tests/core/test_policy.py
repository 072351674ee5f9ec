"""Sampling and scoring against plain transformers calls; saving and loading."""

import copy
import json
import shutil

import pytest
import torch
from core_models import VOCAB, tiny_lm, tiny_tokenizer
from transformers import AutoModelForCausalLM

from rlhf_lib import cpu, sampling
from rlhf_lib.cpu import TanhGELU
from rlhf_lib.errors import KitError
from rlhf_lib.policy import Policy, load_lm, prepare, set_dropout
from rlhf_lib.reward import RewardModel

KINDS = ("gpt2", "llama", "qwen2")


def prompts(padded: bool):
    """Six prompts of nine columns, real lengths 3 to 9 if padded."""
    ids = torch.randint(0, VOCAB, (6, 9), generator=torch.Generator().manual_seed(3))
    lengths = torch.tensor([3, 9, 4, 7, 5, 6]) if padded else torch.full((6,), 9)
    return ids, torch.arange(9)[None] >= 9 - lengths[:, None]


@torch.no_grad()
def plain_logprobs(lm, ids, mask, responses, temperature):
    """The oracle: one row at a time, no padding, all logits, straight from transformers."""
    rows = []
    for i, m, r in zip(ids, mask, responses, strict=True):
        context = i[m]
        logits = lm(torch.cat([context, r])[None]).logits[0, len(context) - 1 : -1]  # [R, vocab]
        rows.append(torch.log_softmax(logits / temperature, -1).gather(1, r[:, None]).squeeze(1))
    return torch.stack(rows)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sampler_scorer_and_transformers_agree(kind, padded, generator):
    policy = Policy(tiny_lm(kind))
    ids, mask = prompts(padded)
    samples = policy.sample(ids, mask, 8, 0.7, generator)
    oracle = plain_logprobs(policy.lm, ids, mask, samples.responses, 0.7)
    assert torch.allclose(samples.logprobs, oracle, atol=1e-4)
    assert torch.allclose(policy.logprobs(ids, mask, samples.responses, 0.7), oracle, atol=1e-4)
    assert oracle.std() > 0.3  # a flat distribution would agree with anything


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_sampler_and_scorer_agree(kind, generator):
    policy = Policy(tiny_lm(kind))
    torch.nn.init.normal_(policy.value_head.weight)
    ids, mask = prompts(True)
    samples = policy.sample(ids, mask, 8, 0.7, generator)
    values = policy(ids, mask, samples.responses, 0.7)[1]
    assert torch.allclose(samples.values, values, atol=1e-4)
    # the value of a token is read before it: changing the last token changes no value
    changed = samples.responses.clone()
    changed[:, -1] = (changed[:, -1] + 1) % VOCAB
    assert torch.equal(policy(ids, mask, changed, 0.7)[1], values)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_weights_or_arithmetic_run_and_stay_near_float32(kind, generator):
    ids, mask = prompts(True)
    exact = Policy(tiny_lm(kind))
    samples = exact.sample(ids, mask, 8, 0.7, generator)
    for policy in (Policy(tiny_lm(kind).bfloat16()), Policy(tiny_lm(kind), autocast=torch.bfloat16)):
        drawn = policy.sample(ids, mask, 8, 0.7, generator)
        assert drawn.logprobs.dtype == drawn.values.dtype == torch.float32
        scored = policy.logprobs(ids, mask, samples.responses, 0.7)
        assert (scored - samples.logprobs).abs().mean() < 0.1
    policy(ids, mask, samples.responses, 0.7)[0].sum().backward()  # master weights stay float32 under autocast
    assert {p.grad.dtype for p in policy.lm.parameters() if p.grad is not None} == {torch.float32}


def test_value_head_starts_at_zero(policy, generator):
    ids, mask = prompts(True)
    assert not policy.sample(ids, mask, 4, 1.0, generator).values.any()


@pytest.mark.parametrize("large", [cpu.LARGE, 1], ids=["layers as they are", "layers turned for few rows"])
def test_lean_gpt2_decoding_is_transformers_token_for_token(policy, monkeypatch, large):
    monkeypatch.setattr(cpu, "LARGE", large)
    monkeypatch.setattr(cpu, "HAS_ONEDNN", False)
    prepare(policy.lm)
    ids, mask = prompts(True)
    lean = policy.sample(ids, mask, 16, 0.7, torch.Generator().manual_seed(5))
    monkeypatch.setattr(sampling, "is_plain_gpt2", lambda lm: False)
    plain = policy.sample(ids, mask, 16, 0.7, torch.Generator().manual_seed(5))
    assert torch.equal(lean.responses, plain.responses)
    assert torch.allclose(lean.logprobs, plain.logprobs, atol=1e-5)


def test_greedy_limit_is_transformers_generate(policy, generator):
    ids, mask = prompts(True)
    mine = policy.sample(ids, mask, 8, 1e-4, generator).responses
    policy.lm.generation_config.eos_token_id = None
    theirs = policy.lm.generate(ids, attention_mask=mask.long(), max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert torch.equal(mine, theirs[:, 9:])


def test_tokens_come_with_their_probabilities(policy, generator):
    """20,000 first tokens after one prompt against the exact distribution (chi-square, 0.999 quantile)."""
    n, temperature = 20_000, 0.7
    ids = torch.tensor([[4, 9, 2]])
    with torch.no_grad():
        p = torch.softmax(policy.lm(ids).logits[0, -1] / temperature, -1).double()
    ids = ids.expand(n, 3)
    tokens = policy.sample(ids, torch.ones_like(ids).bool(), 1, temperature, generator).responses[:, 0]
    counts = torch.bincount(tokens, minlength=VOCAB).double()
    common = p * n > 5
    chi2 = ((counts - n * p)[common] ** 2 / (n * p)[common]).sum().item()
    degrees = int(common.sum()) - 1
    assert degrees >= 5
    assert chi2 < degrees + 3.1 * (2 * degrees) ** 0.5 + 5


def test_pick_never_draws_an_impossible_token():
    logp = torch.log(torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]])).expand(4, -1)
    drawn = sampling.pick(logp, torch.tensor([0.0, 0.4999, 0.5, 1.0 - 1e-16], dtype=torch.float64))
    assert drawn.tolist() == [1, 1, 3, 3]


def test_temperature_divides_the_logits_everywhere(policy, generator):
    ids, mask = prompts(False)
    responses = policy.sample(ids, mask, 8, 0.5, generator).responses
    hot, cold = (policy.logprobs(ids, mask, responses, t) for t in (1.0, 0.5))
    assert (hot - cold).abs().max() > 0.1
    assert torch.allclose(cold, plain_logprobs(policy.lm, ids, mask, responses, 0.5), atol=1e-4)


def test_micro_batches_change_no_sample_and_no_logprob(policy):
    ids, mask = prompts(True)
    whole = policy.sample(ids, mask, 8, 0.7, torch.Generator().manual_seed(1))
    parts = policy.sample(ids, mask, 8, 0.7, torch.Generator().manual_seed(1), micro_batch=2)
    assert torch.equal(whole.responses, parts.responses)
    assert torch.allclose(whole.logprobs, parts.logprobs, atol=1e-5)
    one_by_one = policy.logprobs(ids, mask, whole.responses, 0.7, micro_batch=1)
    assert torch.allclose(one_by_one, whole.logprobs, atol=1e-5)


def test_end_of_text_is_a_token_like_any_other(policy, generator):
    ids, mask = prompts(False)
    # an output bias would do, but GPT-2 has none: make end-of-text (0) point where all hidden states point
    with torch.no_grad():
        policy.lm.transformer.ln_f.bias += 0.5 * policy.lm.transformer.wte.weight[0]
    responses = policy.sample(ids, mask, 16, 1.0, generator).responses
    assert responses.shape == (6, 16)
    ended = (responses == 0).float().cumsum(1).clamp(max=1)[:, :-1]
    assert ended.any()
    assert ((responses[:, 1:] != 0) & (ended > 0)).any()  # text goes on after it


def test_prompt_is_computed_once(policy, monkeypatch, generator):
    """Columns that pass through the first layer: prompt once, then one a step."""
    columns = []
    first = policy.lm.transformer.h[0].ln_1
    original = first.forward
    monkeypatch.setattr(
        first,
        "forward",
        lambda x: columns.append(x.shape[1] if x.dim() == 3 else 1) or original(x),
    )
    policy.sample(*prompts(False), 8, 0.7, generator)
    assert columns == [9] + [1] * 7


def test_vocabulary_is_projected_only_at_response_positions(policy, monkeypatch, generator):
    ids, mask = prompts(False)
    responses = policy.sample(ids, mask, 8, 0.7, generator).responses
    shapes = []
    policy.lm.lm_head.register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape)))
    policy.logprobs(ids, mask, responses, 0.7, micro_batch=3)
    assert shapes == [(3, 8, VOCAB), (3, 8, VOCAB)]


def test_too_long_for_the_model(policy, generator):
    with pytest.raises(KitError, match="69 positions but the model has 64"):
        policy.sample(*prompts(False), 60, 0.7, generator)


def test_fused_activation_is_transformers_activation():
    lm = tiny_lm()
    ids = torch.arange(12)[None]
    with torch.no_grad():
        before = lm(ids).logits
        after = prepare(lm)(ids).logits
    assert isinstance(lm.transformer.h[0].mlp.act, TanhGELU)
    assert torch.allclose(before, after, atol=1e-4)


def test_dropout_is_off_after_load_and_frozen_copy_stays(tmp_path, policy, generator):
    set_dropout(policy.lm, 0.1)
    policy.save(tmp_path / "p", tiny_tokenizer())
    lm, _ = load_lm(tmp_path / "p")
    assert all(m.p == 0 for m in lm.modules() if isinstance(m, torch.nn.Dropout))
    loaded = Policy(lm)
    reference = loaded.frozen_copy()
    ids, mask = prompts(True)
    before = reference.logprobs(ids, mask, ids[:, :4], 0.7)
    with torch.no_grad():
        for p in loaded.parameters():
            p += 0.1
    assert torch.equal(reference.logprobs(ids, mask, ids[:, :4], 0.7), before)
    assert not any(p.requires_grad for p in reference.parameters())


def test_saved_policy_opens_in_transformers_and_here(tmp_path, policy):
    torch.nn.init.normal_(policy.value_head.weight)
    folder = policy.save(tmp_path / "model", tiny_tokenizer())
    policy.save(tmp_path / "model", tiny_tokenizer())  # over an old one
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]  # no temporary folder left
    ids = torch.arange(10)[None]
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
        assert torch.allclose(plain, policy.lm(ids).logits, atol=1e-5)
    loaded, tokenizer = Policy.load(folder)
    assert torch.equal(loaded.value_head.weight, policy.value_head.weight)
    assert tokenizer.encode("a.") == tiny_tokenizer().encode("a.")


# ---- bad input: each ends in one sentence -------------------------------------------------------------------


@pytest.fixture()
def folder(tmp_path, policy):
    return policy.save(tmp_path / "model", tiny_tokenizer())


def sentence(folder):
    with pytest.raises(KitError) as caught:
        load_lm(folder)
    assert str(caught.value).count("\n") == 0
    return str(caught.value)


def test_missing_folder():
    assert "There is no model folder" in sentence("./not/here")


def test_unreachable_hub():
    assert "hub" in sentence("nobody/nothing-of-this-name")


def test_truncated_weights(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    assert "cannot be opened" in sentence(folder)


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "no safetensors" in sentence(folder)


def test_no_config(folder):
    (folder / "config.json").unlink()
    assert "config.json" in sentence(folder)


def test_weights_of_another_architecture(folder):
    other = tiny_lm("llama")
    other.save_pretrained(folder / "x")
    shutil.copy(folder / "x/model.safetensors", folder / "model.safetensors")
    assert "do not fit" in sentence(folder)


def test_a_reward_model_is_no_language_model(folder, tmp_path):
    policy, tokenizer = Policy.load(folder)
    reward = RewardModel(copy.deepcopy(policy.lm.base_model))
    reward.save(tmp_path / "reward", tokenizer, policy.lm.config)
    assert "is a reward model, no language model" in sentence(tmp_path / "reward")


def test_weights_of_another_size(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_embd": 64}))
    assert "model" in sentence(folder)


def test_unknown_architecture(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "abacus"}))
    assert "cannot be opened" in sentence(folder)


def test_missing_tokenizer(folder):
    for file in folder.glob("*token*"):
        file.unlink()
    assert "tokenizer" in sentence(folder)


def test_tokenizer_larger_than_the_model(folder):
    tiny_lm(vocab=32).save_pretrained(folder)
    assert "more tokens than its model" in sentence(folder)


def test_bad_dtype(folder):
    with pytest.raises(KitError, match="not a torch dtype"):
        load_lm(folder, dtype="float33")


def test_damaged_value_head(folder):
    (folder / "value_head.safetensors").write_bytes(b"nothing")
    with pytest.raises(KitError, match="value head"):
        Policy.load(folder)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("padded", [False, True])
def test_repeated_prompts_sample_as_separate_ones_do(kind, padded):
    """One prompt pass for three samples gives the very samples, log-probabilities and values of three passes."""
    policy = Policy(tiny_lm(kind))
    torch.nn.init.normal_(policy.value_head.weight)
    ids, mask = prompts(padded)
    once = policy.sample(ids, mask, 5, 0.7, torch.Generator().manual_seed(3), repeats=3)
    apart = policy.sample(
        ids.repeat_interleave(3, 0), mask.repeat_interleave(3, 0), 5, 0.7, torch.Generator().manual_seed(3)
    )
    assert torch.equal(once.responses, apart.responses)
    torch.testing.assert_close(once.logprobs, apart.logprobs, atol=1e-5, rtol=0)
    torch.testing.assert_close(once.values, apart.values, atol=1e-5, rtol=0)
