"""The collapse made again: the sweep's own training, a value head that cannot reach the trunk, the recording."""

import pytest
import torch
from core_models import VOCAB, tiny_lm

from rlhf_lib import collapse
from rlhf_lib.collapse import Apart, CollapseRun
from rlhf_lib.errors import KitError
from rlhf_lib.policy import Policy
from rlhf_lib.style import StyleRun


def test_a_value_head_apart_reads_the_same_and_teaches_the_trunk_nothing():
    ids = torch.randint(0, VOCAB, (3, 5), generator=torch.Generator().manual_seed(1))
    responses, mask = ids.flip(1)[:, :4], torch.ones_like(ids, dtype=torch.bool)
    found = {}
    for kind in (type(Policy(tiny_lm()).value_head), Apart):
        policy = Policy(tiny_lm())
        policy.value_head.__class__ = kind
        policy.value_head.weight.data.fill_(0.3)
        logprobs, values = policy(ids, mask, responses, 0.7)
        trunk = list(policy.lm.parameters())
        leaves = [*trunk, policy.value_head.weight]
        by_value = torch.autograd.grad(values.sum(), leaves, allow_unused=True, retain_graph=True)
        by_logprobs = torch.autograd.grad(logprobs.sum(), trunk)
        found[kind] = logprobs, values, by_value[-1], by_logprobs
        reached = [g is not None and bool(g.any()) for g in by_value[:-1]]
        assert any(reached) is (kind is not Apart)
    for mine, usual in zip(*found.values(), strict=True):
        torch.testing.assert_close(mine, usual)


@pytest.mark.slow
def test_as_it_was_is_the_sweeps_training(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_RUNS", str(tmp_path))
    sweep = StyleRun(tmp_path, "descriptiveness", "smoke", seed=2).metrics()
    rows = CollapseRun(tmp_path, "as it was", profile="smoke", updates=3).rows()
    assert len(rows) == 3 and rows.response.notna().sum() == 1 and (rows.change == "as it was").all()
    for name in ("objective/kl", "objective/score", "ppo/loss/value"):
        torch.testing.assert_close(torch.tensor(rows[name]), torch.tensor(sweep[name][:3].to_numpy()))
    other = CollapseRun(tmp_path, "as it was", again=12, profile="smoke", updates=3)
    assert other.rows()["objective/kl"][2] != rows["objective/kl"][2]
    fixed = CollapseRun(tmp_path, "β fixed", profile="smoke", updates=3)
    kept = collapse.record([other, fixed], tmp_path / "recorded")
    again = collapse.recorded(tmp_path / "recorded")
    assert len(kept) == len(again) == 6 and (again[again.change == "β fixed"]["objective/kl_coef"] == 0.1).all()


def test_what_is_no_change_or_not_recorded_is_said(tmp_path):
    with pytest.raises(KitError, match="value head apart"):
        CollapseRun(tmp_path, "less of it").config()
    with pytest.raises(KitError, match="rlhf_lib collapse"):
        collapse.recorded(tmp_path)


def test_every_training_is_recorded_whole():
    whole = collapse.recorded().groupby(["change", "again"]).step
    assert set(whole.groups) == set(collapse.trainings())
    assert (whole.count() == collapse.UPDATES).all() and (whole.max() == collapse.UPDATES).all()
