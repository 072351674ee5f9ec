"""Supervised fine-tuning against a plain transformers loss."""

import io
import math
from dataclasses import replace

import pytest
import torch
from core_models import STYLE, tiny_lm

from rlhf_lib.errors import KitError
from rlhf_lib.profiles import SFTConfig
from rlhf_lib.sft import _nll_sum, fit_sft, summary_pairs, text_pairs
from rlhf_lib.tasks import Task

CFG = SFTConfig(examples=64, batch=8, lr=3e-3)
PAIRS = [([1 + i % 9, 5], [10 + i % 9, 11 + i % 9, 28]) for i in range(64)]


def test_loss_is_transformers_loss_on_the_target_tokens():
    lm = tiny_lm()
    batch = [([1, 2, 3], [4, 5]), ([6], [7, 8, 9]), ([], [3, 1, 2])]
    total = 0.0
    with torch.no_grad():
        for prompt, target in batch:
            logp = torch.log_softmax(lm(torch.tensor([prompt + target])).logits[0], -1)
            first = max(len(prompt), 1)  # without a prompt, nothing predicts the first token
            total -= sum(logp[i - 1, (prompt + target)[i]].item() for i in range(first, len(prompt + target)))
        assert _nll_sum(lm, batch, None).item() == pytest.approx(total, abs=1e-4)


def test_fine_tuning_learns_with_a_cosine_rate_and_dropout_only_inside():
    lm, rows, dropouts = tiny_lm(), [], []

    def watch(state):
        rows.append(state.metrics)
        dropouts.append({m.p for m in lm.modules() if isinstance(m, torch.nn.Dropout)})
        assert lm.training

    fit_sft(lm, PAIRS * 4, CFG, callbacks=[watch])
    assert all(d == {0.1} for d in dropouts)
    assert not lm.training
    assert {m.p for m in lm.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}
    assert rows[-1]["sft/loss"] < rows[0]["sft/loss"] - 1
    n = len(rows)
    cosine = [3e-3 * 0.5 * (1 + math.cos(math.pi * i / n)) for i in range(n)]
    assert [r["sft/lr"] for r in rows] == pytest.approx(cosine)


def test_micro_batches_are_exact():
    ends = []
    for micro in (8, 3):
        lm = tiny_lm()
        fit_sft(lm, PAIRS, replace(CFG, micro_batch=micro, dropout=0.0, adam_eps=1e-3))
        ends.append(lm.state_dict())
    assert all(torch.allclose(ends[0][k], ends[1][k], atol=1e-4) for k in ends[0])


def test_resumed_is_uninterrupted_dropout_included():
    file, ends = io.BytesIO(), []
    keep = lambda s: torch.save(s.state_dict(), file) if s.step == 3 else None  # noqa: E731
    ends.append(fit_sft(tiny_lm(), PAIRS, CFG, callbacks=[keep]).state_dict())
    file.seek(0)
    ends.append(fit_sft(tiny_lm(), PAIRS, CFG, resume=torch.load(file, weights_only=True)).state_dict())
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])


def test_pairs_from_texts(tokenizer):
    text = replace(STYLE, start_text=None, end_text="\n", truncate_token="\n", prefix="A:", suffix=";B:")
    task = Task("cnndm", text, tokenizer)
    ((prompt, target),) = summary_pairs(["first line\nsecond"], ["the  sum\nup"], task)
    assert task.decode(prompt) == "A:first line\n;B:"
    assert task.decode(target) == " the sum"  # cut to the response length
    ((_, short),) = summary_pairs(["first line\nsecond"], ["sum"], task)
    assert task.decode(short) == " sum\n"
    assert text_pairs(["abc", "", "z" * 50], task) == [([], task.encode("abc")), ([], task.encode("z" * 20))]


def test_nothing_to_learn_from_and_nan_are_sentences():
    with pytest.raises(KitError, match="no text"):
        fit_sft(tiny_lm(), [], CFG)
    with pytest.raises(KitError, match="learning rate"):
        fit_sft(tiny_lm(), PAIRS, replace(CFG, lr=1e30))
