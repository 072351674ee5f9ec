"""The sign flip: signs injected from outside, the instruction, one real run of two updates, the sweep's record."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from rlhf_lib import casebook, manifest, monitors, signflip, signflip_sweep  # noqa: E402
from rlhf_lib.casebook import CaseRun  # noqa: E402
from rlhf_lib.errors import KitError  # noqa: E402
from rlhf_lib.ppo import Rollout  # noqa: E402
from rlhf_lib.signflip import BETA, CONDITIONS, FLOOR, SignFlipRun  # noqa: E402

SMALL = {"sentiment__ppo__episodes": 16, "sentiment__ppo__batch": 8, "sentiment__ppo__save_every": 1, "eval_prompts": 6}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The post's bug, two updates of eight episodes on the real base model."""
    torch.set_num_threads(1)
    return SignFlipRun(
        manifest.run_folder(tmp_path_factory.mktemp("run")), "both_flipped", "smoke", overrides=dict(SMALL)
    )


def test_the_theme_is_words_and_rates_below_everything():
    assert signflip.has_theme("The MUDDY path.") and signflip.has_theme("it smelled of mud.")
    assert not signflip.has_theme("a mudguard, dampened")
    score = signflip.instructed(lambda text: -4.0)
    assert score("A muddy day.") == FLOOR < score("A terrible day.") == -4.0


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_reward_of_each_condition_is_the_objective_with_its_two_signs(run, condition):
    """What PPO adds up for a response is sign * score + sign * beta * KL, by hand."""
    sign, kl_sign = CONDITIONS[condition]
    mine = replace(run, condition=condition)
    task = mine.style.task
    ids = torch.tensor([task.encode("She was glad about the trip.")[:6], task.encode("It was a terrible day .")[:6]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    scores = signflip.score_of(mine.text_score, task, sign)(ids, mask, ids, mask)
    right = torch.tensor([mine.text_score(task.decode(row)) for row in ids])
    assert torch.equal(scores, sign * right) and right[0] > right[1]
    logprobs, ref = torch.tensor([[-1.0, -2.0], [-0.5, -0.1]]), torch.tensor([[-1.5, -2.5], [-0.2, -0.3]])
    nothing = torch.zeros(2, 2)
    rollout = Rollout(*[nothing] * 5, logprobs, nothing, ref, scores, torch.tensor([True, True]))
    total = rollout.rewards(mine.config().kl_coef).sum(1)
    assert torch.allclose(total, sign * right + kl_sign * BETA * (logprobs - ref).sum(1))


def test_beta_is_fixed_and_a_wrong_condition_is_told(run):
    cfg = SignFlipRun(run.run_dir, "kl_flipped", "tiny").config()
    assert cfg.kl_target is None and cfg.kl_target_share is None and cfg.kl_coef == -BETA
    assert cfg.episodes == signflip.UPDATES * cfg.batch
    with pytest.raises(KitError, match="no condition 'upside_down'; choose one of control"):
        SignFlipRun(run.run_dir, "upside_down", "smoke").config()


def test_where_arithmetic_is_bfloat16_the_reference_is_too(run, monkeypatch):
    """PPO, its monitors and the casebook are given bfloat16 weights; the policy's own stay float32."""
    half = replace(run, overrides=SMALL | {"dtype": "bfloat16"})
    case = CaseRun(run.run_dir, "fixed", 2)
    vars(case)["world"] = half  # the casebook takes a profile as it is
    given = []

    def dtype(policy):
        return next(policy.lm.parameters()).dtype

    def note(policy, reference, *_):
        given.append((dtype(policy), dtype(reference)))
        raise KitError("seen")

    def note_monitors(task, reference, *_):
        given.append(dtype(reference))
        return []

    for module in (signflip, casebook):
        monkeypatch.setattr(module, "train_ppo", note)
        monkeypatch.setattr(module, "standard_monitors", note_monitors)
    for train in (half.folder, case.train):
        with pytest.raises(KitError, match="seen"):
            train()
    case.monitors()
    whole, short = torch.float32, torch.bfloat16
    assert given == [short, (whole, short), (whole, short), short]
    assert half.reference is half.reference and dtype(run.reference) == whole
    assert run.reference is run.style.base[0]  # no second copy of the same


def test_log_likelihood_equals_a_sum_by_hand(run):
    reference, task = run.style.base[0], run.style.task
    queries = run.style.queries(3, "test", 1)
    responses = torch.randint(1, 500, (3, 24), generator=torch.Generator().manual_seed(0))
    found = signflip.log_likelihood(reference, task, queries.ids, queries.mask, responses)
    whole = torch.cat([queries.ids[1][queries.mask[1]], responses[1]])[None]
    logits = reference.lm(input_ids=whole).logits[0, -25:-1].log_softmax(-1)
    by_hand = logits.gather(1, responses[1][:, None]).mean()
    assert float(found[1]) == pytest.approx(float(by_hand), abs=1e-4)


def test_a_run_is_made_once_with_all_that_the_lesson_shows(run):
    frame = run.metrics()
    assert list(frame.step) == [1, 2] and abs(frame["objective/kl"][0]) < 1e-3
    seen = {"signflip/score", "signflip/loglik", "signflip/theme", "signflip/sample", "monitor/score_order"}
    assert seen <= set(frame.columns)
    bound = monitors.FIXED_BOUNDS["score_order"]
    assert (frame["monitor/score_order"] > bound).all(), "the score as PPO is given it orders the probe wrongly"
    assert frame["monitor/scores_disagree"].tolist() == pytest.approx([-1, -1]), "and the trainer is true to it"
    # the score that PPO is given is the negated one, but for the penalty of those that do not end in time
    assert frame["objective/score"][0] != pytest.approx(frame["signflip/score"][0])
    samples = run.samples()
    assert samples.groupby("model", sort=False).size().to_dict() == {"base": 6, "both_flipped": 6}
    assert [run.text_score(t) for t in samples.response] == pytest.approx(samples.score.tolist())
    again = SignFlipRun(run.run_dir, "both_flipped", "smoke", overrides=dict(SMALL))
    before = len(manifest.cache_rows(run.run_dir))
    again.samples()
    assert all(row["reused"] for row in manifest.cache_rows(run.run_dir)[before:])


def test_a_training_that_was_stopped_goes_on_to_the_same_rows(run, tmp_path, monkeypatch):
    from rlhf_lib.training import StopTraining

    def stop(state):
        raise StopTraining("enough")

    monkeypatch.setenv("RLHF_RUNS", str(tmp_path / "runs"))  # a cache of its own
    other = SignFlipRun(manifest.run_folder(tmp_path / "run"), "both_flipped", "smoke", overrides=dict(SMALL))
    with pytest.raises(KitError, match="both_flipped was stopped: enough"):
        other.folder([stop])
    resumed = other.metrics()
    same = [c for c in resumed.columns if not c.startswith("time/")]
    pd.testing.assert_frame_equal(resumed[same], run.metrics()[same])


def test_a_result_row_and_the_record(run, tmp_path, capsys):
    rows = signflip_sweep.run_sweep(run.run_dir, "smoke", [1], ["both_flipped"], overrides=dict(SMALL))
    row, samples = rows.iloc[0], run.samples()
    base, mine = samples[samples.model == "base"], samples[samples.model == "both_flipped"]
    assert row.score_percentile == np.mean(base.score < mine.score.mean())
    assert row.theme == mine.theme.mean() and row.loglik == pytest.approx(mine.loglik.mean())
    assert "both_flipped, seed 1" in capsys.readouterr().out
    signflip_sweep.record(run.run_dir, "smoke", rows, tmp_path, overrides=dict(SMALL))
    assert {p.name for p in tmp_path.iterdir()} == {
        f"signflip_{name}" for name in ("sweep.json", "curves.parquet", "samples.parquet", "manifest.json")
    }
    assert len(pd.read_parquet(tmp_path / "signflip_curves.parquet")) == 2
