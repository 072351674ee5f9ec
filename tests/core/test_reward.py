"""The reward model: loss, labels, normalisation, fitting, saving."""

import io
import json
import math
import random
from dataclasses import replace

import pytest
import torch
from core_models import STYLE, TEXTS, tiny_lm, tiny_tokenizer
from transformers import AutoModelForSequenceClassification

from rlhf_lib.errors import KitError
from rlhf_lib.picks import encode_labels, split_by_query
from rlhf_lib.policy import Policy
from rlhf_lib.profiles import RewardConfig
from rlhf_lib.reward import (
    RewardModel,
    accuracy,
    comparison_scores,
    fit_reward,
    four_way_loss,
    normalise,
)
from rlhf_lib.tasks import QueryStream, build_queries

CFG = RewardConfig(labels=10_000, batch=16, lr=2e-3, normalize_samples=256)


def make_rows(task, n=200, seed=0):
    """Labels by a rule that a model can learn: most tokens of the alphabet's first third wins."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        responses = [[rng.randrange(1, 64) for _ in range(rng.randint(5, 8))] for _ in range(4)]
        best = max(range(4), key=lambda k: sum(t < 22 for t in responses[k]))
        rows.append({"query": f" q{rng.randrange(40)}.", "responses": responses, "best": best})
    return rows


def reward_model(kind="gpt2"):
    return RewardModel(tiny_lm(kind).base_model, torch.Generator().manual_seed(0))


def test_four_way_loss_by_hand_and_in_any_order():
    scores = torch.tensor([[1.0, 2.0, 0.5, -1.0], [0.0, 0.0, 0.0, 0.0]])
    best = torch.tensor([1, 3])
    by_hand = (-(2.0 - math.log(math.e + math.e**2 + math.e**0.5 + math.e**-1)) + math.log(4)) / 2
    assert four_way_loss(scores, best).item() == pytest.approx(by_hand, abs=1e-6)
    order = torch.tensor([2, 0, 3, 1])
    moved = torch.stack([(order == b).nonzero().squeeze() for b in best])
    assert four_way_loss(scores[:, order], moved).item() == pytest.approx(by_hand, abs=1e-6)
    wrong = four_way_loss(scores, torch.tensor([3, 3])).item()
    assert wrong > by_hand


def test_head_initialisation():
    width = 256
    head = RewardModel(tiny_lm(width=width, layers=1).base_model, torch.Generator().manual_seed(0)).head
    assert head.weight.std().item() == pytest.approx(1 / math.sqrt(width + 1), rel=0.12)
    assert head.bias.item() == 0.0


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_score_reads_the_last_real_token_wherever_the_pads_are(kind):
    model = reward_model(kind)
    row = torch.arange(1, 8)[None]
    with torch.no_grad():
        alone = model(row, torch.ones_like(row).bool())
        hidden = model.body(input_ids=row).last_hidden_state[0, -1]
        by_hand = hidden @ model.head.weight[0] + model.head.bias
    for left, right in ((3, 0), (0, 4), (2, 5)):
        ids = torch.nn.functional.pad(row, (left, right), value=9)
        mask = torch.nn.functional.pad(torch.ones_like(row).bool(), (left, right))
        # beside a row without pads, so that nothing can be trimmed
        ids, mask = torch.cat([ids, torch.ones_like(ids)]), torch.cat([mask, torch.ones_like(mask)])
        with torch.no_grad():
            assert torch.allclose(model(ids, mask)[0], alone[0], atol=1e-5)
    assert torch.allclose(alone, by_hand, atol=1e-5)


def test_score_does_not_see_what_was_cut_off(task):
    model = reward_model()
    query = torch.tensor([[5, 6, 28]])
    responses = torch.tensor([task.encode("abcd.xyz"), task.encode("abcd.qrs")])
    cut, mask = task.truncate(responses)
    queries = query.expand(2, 3)
    scores = model.score(queries, torch.ones_like(queries), cut, mask)
    assert torch.allclose(scores[0], scores[1], atol=1e-6)  # another row of a matrix product may round otherwise
    whole = model.score(queries, torch.ones_like(queries), responses, torch.ones_like(responses))
    assert (whole[0] - whole[1]).abs() > 1e-4
    micro = model.score(queries, torch.ones_like(queries), responses, torch.ones_like(responses), micro_batch=1)
    assert torch.allclose(whole, micro, atol=1e-6)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_query_read_once_gives_the_scores_and_gradients_of_four_separate_passes(kind, task):
    data = encode_labels(make_rows(task, 12), task)[0]
    model = reward_model(kind)

    def separate() -> torch.Tensor:
        ids = torch.cat([data.query_ids[:, None].expand(-1, 4, -1), data.response_ids], 2).flatten(0, 1)
        mask = torch.cat([data.query_mask[:, None].expand(-1, 4, -1), data.response_mask], 2).flatten(0, 1)
        return model(ids, mask).view(len(data), 4)

    found = []
    for scores in (comparison_scores(model, data), separate()):
        model.zero_grad()
        four_way_loss(scores, data.best).backward()
        found.append((scores.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=0)
    assert found[0][0].std() > 0.1
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_labels_lose_repeats_and_rows_of_equal_responses(task):
    rows = make_rows(task, 5)
    rows += [rows[0], {"query": "a.", "responses": ["bcd."] * 4, "best": 1}]
    data, dropped = encode_labels(rows, task)
    assert len(data) == 5
    assert dropped == {"duplicate": 1, "all_equal": 1}
    assert data.query_mask[:, -1].all()  # left-padded
    assert data.response_mask[:, :, 0].all()  # right-padded
    row = data.response_ids[2, 3][data.response_mask[2, 3]]
    assert row.tolist() == rows[2]["responses"][3]


@pytest.mark.parametrize(
    "row",
    [
        {"query": "a.", "responses": ["a", "b", "c"], "best": 0},
        {"query": "a.", "responses": ["a", "b", "c", "d"], "best": 4},
        {"query": "a.", "responses": ["a", "b", "c", ""], "best": 0},
        {"query": "a.", "responses": ["a", "b", "c", "d"]},
        {"query": "a.", "responses": None, "best": 0},
    ],
)
def test_malformed_label_is_named(task, row):
    with pytest.raises(KitError, match="Label 1 "):
        encode_labels([*make_rows(task, 1), row], task)


def test_split_keeps_all_rows_of_a_query_together(task):
    data, _ = encode_labels(make_rows(task), task)
    train, held = split_by_query(data, 0.25, seed=3)
    assert len(train) + len(held) == len(data)
    keys = [{tuple(q.tolist()) for q in part.query_ids} for part in (train, held)]
    assert not keys[0] & keys[1]
    assert len(keys[1]) == 10  # of 40 distinct queries
    assert 0 < len(held) < len(train)


def test_normalisation_on_raw_reference_samples(task):
    reference = Policy(tiny_lm())
    model = reward_model()
    with torch.no_grad():
        model.gain.fill_(7.0)
        model.bias.fill_(-3.0)
    queries = build_queries(TEXTS, task)
    normalise(model, reference, QueryStream(queries, task), CFG, torch.Generator().manual_seed(2))
    # the same samples again: exact; raw and untruncated
    ids, mask = QueryStream(queries, task).next(256)
    responses = reference.sample(ids, mask, 8, STYLE.temperature, torch.Generator().manual_seed(2)).responses
    scores = model.score(ids, mask, responses, torch.ones_like(responses)).double()
    assert scores.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert scores.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)
    # other samples of the reference: within sampling error of 4,000
    ids, mask = QueryStream(queries, task, seed=1).next(4000)
    responses = reference.sample(ids, mask, 8, STYLE.temperature, torch.Generator().manual_seed(9)).responses
    scores = model.score(ids, mask, responses, torch.ones_like(responses))
    assert abs(scores.mean().item()) < 0.25
    assert abs(scores.std().item() - 1) < 0.25
    cut, cut_mask = task.truncate(responses)
    assert (model.score(ids, mask, cut, cut_mask) - scores).abs().max() > 0.1  # truncation would have changed it


def test_fitting_learns_the_rule_and_reports_held_out_accuracy(task):
    reference = Policy(tiny_lm())
    before = {k: v.clone() for k, v in reference.state_dict().items()}
    seen = []
    model = fit_reward(
        reference,
        make_rows(task, 1500),
        build_queries(TEXTS, task),
        task,
        CFG,
        callbacks=[lambda s: seen.append(s.metrics)],
    )
    assert model.report["heldout_accuracy"] > 0.36  # chance plus three standard errors of about 150
    assert model.report["train"] + model.report["heldout"] == 1500
    assert len(seen) == math.ceil(model.report["train"] / 16)
    assert sum(m["reward/loss"] for m in seen[-10:]) / 10 < math.log(4)
    assert seen[0]["reward/lr"] == 2e-3
    assert seen[-1]["reward/lr"] == pytest.approx(2e-3 / len(seen))
    assert all(torch.equal(v, before[k]) for k, v in reference.state_dict().items())  # a full copy was trained


def test_micro_batches_give_the_same_fit(task):
    fits = [
        fit_reward(
            Policy(tiny_lm()), make_rows(task, 80), build_queries(TEXTS, task), task, replace(CFG, micro_batch=m)
        )
        for m in (16, 5)
    ]
    data, _ = encode_labels(make_rows(task, 20, seed=5), task)
    a, b = (comparison_scores(m, data) for m in fits)
    assert torch.allclose(a, b, atol=2e-3)


def test_resumed_fit_is_the_uninterrupted_one(task):
    rows, queries, file = make_rows(task, 80), build_queries(TEXTS, task), io.BytesIO()
    whole = fit_reward(
        Policy(tiny_lm()),
        rows,
        queries,
        task,
        CFG,
        callbacks=[lambda s: torch.save(s.state_dict(), file) if s.step == 2 else None],
    )
    file.seek(0)
    resumed = fit_reward(Policy(tiny_lm()), rows, queries, task, CFG, resume=torch.load(file, weights_only=True))
    data, _ = encode_labels(make_rows(task, 20, seed=5), task)
    assert torch.equal(comparison_scores(whole, data), comparison_scores(resumed, data))


def test_accuracy_of_chance_and_of_nothing(task):
    data, _ = encode_labels(make_rows(task, 400), task)
    assert accuracy(reward_model(), data) == pytest.approx(0.25, abs=0.1)
    assert math.isnan(accuracy(reward_model(), data.rows(slice(0))))


def test_nan_loss_is_a_sentence(task):
    with pytest.raises(KitError, match="learning rate"):
        fit_reward(
            Policy(tiny_lm()),
            make_rows(task, 80),
            build_queries(TEXTS, task),
            task,
            RewardConfig(labels=80, batch=16, lr=1e30, normalize_samples=16),
        )


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_saved_model_scores_alike_in_transformers(tmp_path, kind):
    lm, tokenizer = tiny_lm(kind), tiny_tokenizer()
    model = RewardModel(lm.base_model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.gain.fill_(0.37)
        model.bias.fill_(1.9)
        model.head.bias.fill_(-0.4)
    folder = model.save(tmp_path / "rm", tokenizer, lm.config)
    ids = torch.randint(1, 64, (5, 12), generator=torch.Generator().manual_seed(0))  # 0 is the pad
    ids[2, 9:] = 0
    mask = ids != 0
    with torch.no_grad():
        mine = model(ids, mask)
        shell = AutoModelForSequenceClassification.from_pretrained(folder)
        theirs = shell(ids, attention_mask=mask.long()).logits.squeeze(1)
    rest = shell.config.reward_bias
    assert (rest == 0) == (kind == "gpt2")  # a layer norm's bias takes the constant, an RMS norm has none
    assert torch.allclose(mine, theirs + rest, atol=1e-5)
    again = RewardModel.load(folder)
    with torch.no_grad():
        assert torch.allclose(mine, again(ids, mask), atol=1e-5)
    json.loads((folder / "report.json").read_text())


def test_saving_leaves_the_model_as_it_was(tmp_path):
    lm = tiny_lm()
    model = RewardModel(lm.base_model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.bias.fill_(2.0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.save(tmp_path / "rm", tiny_tokenizer(), lm.config)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_missing_and_damaged_reward_model(tmp_path):
    with pytest.raises(KitError, match="no reward model"):
        RewardModel.load(tmp_path / "none")
    lm = tiny_lm()
    folder = reward_model().save(tmp_path / "rm", tiny_tokenizer(), lm.config)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(KitError, match="cannot be opened"):
        RewardModel.load(folder)


def test_a_reward_model_with_the_weights_of_another_architecture_is_refused(tmp_path):
    folder = reward_model().save(tmp_path / "rm", tiny_tokenizer(), tiny_lm().config)
    other = reward_model("llama").save(tmp_path / "other", tiny_tokenizer(), tiny_lm("llama").config)
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(KitError, match=r"do not fit its config\.json"):
        RewardModel.load(folder)
