"""The four profiles: the published values, overrides, and what is refused."""

import ast
import inspect

import pytest

from rlhf_lib import profiles
from rlhf_lib.errors import KitError
from rlhf_lib.profiles import TASKS, get_profile, resolve_kl_target


def test_released_codes_values():
    p = get_profile("gpt2")
    style, cnndm, tldr = p.sentiment, p.cnndm, p["tldr"]
    assert p.descriptiveness == p.sentiment  # the same task configuration, only the labels differ
    t = style.text
    assert (t.query_length, t.response_length, t.temperature, t.truncate_after, t.penalty) == (64, 24, 0.7, 16, -1)
    t = cnndm.text
    assert (t.query_length, t.response_length, t.temperature, t.truncate_after) == (500, 75, 0.5, 55)
    assert (t.prefix, t.suffix, tldr.text.prefix, tldr.text.suffix) == ("Article:\n\n", "\n\nTL;DR:", "", "\n\nTL;DR:")
    assert (tldr.text.end_text, cnndm.text.end_text, tldr.text.temperature) == (None, "\n", 0.7)
    assert (style.reward.labels, style.reward.batch, style.reward.lr) == (4992, 32, 5e-5)
    assert (cnndm.reward.labels, cnndm.reward.batch, cnndm.reward.lr) == (46_000, 16, 2.5e-5)
    s, c = style.ppo, cnndm.ppo
    assert (s.episodes, s.batch, s.lr, s.kl_coef, s.kl_target, s.kl_horizon) == (10**6, 512, 1e-5, 0.15, 6.0, 10**4)
    assert (c.batch, c.lr, c.kl_coef, tldr.ppo.kl_coef, c.kl_target) == (32, 2e-6, 0.01, 0.03, None)
    assert s.whiten_rewards and not c.whiten_rewards
    assert (s.gamma, s.lam, s.clip, s.value_clip, s.vf_coef, s.adam_eps, s.epochs) == (1, 0.95, 0.2, 0.2, 0.1, 1e-5, 4)


def test_papers_values():
    p = get_profile("gpt2-large")
    assert (p.cnndm.ppo.kl_coef, p.tldr.ppo.kl_coef) == (0.1, 0.03)
    assert (p.cnndm.ppo.kl_target, p.tldr.ppo.kl_target) == (None, None)
    assert (p.sentiment.ppo.kl_target, p.descriptiveness.ppo.kl_target) == (10.0, 6.0)
    assert (p.sentiment.ppo.batch, p.sentiment.ppo.lr) == (1024, 1.41e-5)
    assert (p.cnndm.ppo.batch, p.cnndm.ppo.lr) == (512, 7.07e-6)
    assert {p[t].ppo.episodes for t in TASKS} == {2_000_000}
    assert (p.sentiment.reward.batch, p.tldr.reward.batch, p.tldr.reward.lr) == (8, 32, 1.77e-5)
    assert p.sentiment.sft.examples > 0  # the reference is first fine-tuned on BookCorpus
    assert get_profile("gpt2").sentiment.sft.examples == 0


def test_tiny_fits_the_shipped_model_and_keeps_the_papers_gain():
    p = get_profile("tiny")
    assert get_profile() == p
    for name in TASKS:
        ppo, text = p[name].ppo, p[name].text
        assert text.query_length + text.response_length < 240
        assert ppo.batch / ppo.kl_horizon == pytest.approx(0.1)
        assert 0 < text.truncate_after < text.response_length
    assert p.sentiment.text == p.descriptiveness.text == get_profile("gpt2").sentiment.text
    assert (p.sentiment.ppo.kl_target_share, p.descriptiveness.ppo.kl_target_share) == (0.19, 0.11)
    assert resolve_kl_target(p.sentiment.ppo, 50.0).kl_target == pytest.approx(9.5)
    assert resolve_kl_target(p.cnndm.ppo, 50.0) == p.cnndm.ppo


def test_overrides_reach_one_task_or_all():
    p = get_profile("tiny", model="here", sentiment__ppo__lr=1e-4, ppo__episodes=640, tldr__sft__lr=1)
    assert (p.model, p.sentiment.ppo.lr, p.tldr.sft.lr) == ("here", 1e-4, 1.0)
    assert p.cnndm.ppo.lr == get_profile("tiny").cnndm.ppo.lr
    assert {p[t].ppo.episodes for t in TASKS} == {640}
    assert get_profile("tiny", sentiment__ppo__kl_target=3.0).sentiment.ppo.kl_target == 3.0


@pytest.mark.parametrize(
    ("name", "overrides", "part"),
    [
        ("huge", {}, "no profile 'huge'"),
        ("tiny", {"nodel": "x"}, "'nodel'"),
        ("tiny", {"sentiment__ppo__rate": 1}, "'rate'"),
        ("tiny", {"sentiment__ppo": 1}, "single value"),
        ("tiny", {"model__x": 1}, "single value"),
        ("tiny", {"ppo__lr": "fast"}, "must be of type float"),
        ("tiny", {"ppo__batch": 1.5}, "must be of type int"),
        ("tiny", {"ppo__batch": True}, "must be of type int"),
    ],
)
def test_wrong_names_and_types_are_sentences(name, overrides, part):
    with pytest.raises(KitError, match=part):
        get_profile(name, **overrides)


def test_unknown_task():
    with pytest.raises(KitError, match="no task 'poetry'"):
        get_profile()["poetry"]


def test_every_number_says_its_unit_and_source():
    """Each field of the text, reward, PPO and SFT settings is followed by a line about it."""
    for node in ast.parse(inspect.getsource(profiles)).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
            for field, after in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(field, ast.AnnAssign):
                    assert isinstance(after, ast.Expr), f"{node.name}.{field.target.id} has no line"
