"""Monitors: each number beside one made by hand, each bound from both sides, then runs that are really sick."""

import json
import math
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from rlhf_lib import andon, casebook, manifest, measures, monitors, ppo, probe_measures  # noqa: E402
from rlhf_lib import probe as probes  # noqa: E402
from rlhf_lib.errors import KitError  # noqa: E402
from rlhf_lib.labels.store import LabelStore  # noqa: E402
from rlhf_lib.monitors import Monitor  # noqa: E402
from rlhf_lib.picks import Comparisons  # noqa: E402
from rlhf_lib.policy import Policy  # noqa: E402
from rlhf_lib.tasks import Queries  # noqa: E402
from rlhf_lib.training import StopTraining  # noqa: E402
from tests.core.core_models import tiny_lm  # noqa: E402
from tests.runner import small_ppo  # noqa: E402

HEALTHY = {"objective/kl": 3.0, "objective/entropy": 40.0, "objective/score": 0.5, "objective/penalised": 0.3}
# for the random model of these tests; the kit's own come from its base model (`calibrate`)
BOUNDS = {
    "kl_negative": 0.3, "kl_too_high": 1.0, "entropy_collapses": 0.9, "score_falls": 0.5, "too_many_penalised": 0.95,
    "circles": 0.5, "sameness": 0.5, "asked_score": 6.0,
    "log_ratio_order": 0.5,
}  # fmt: skip


def rows(**columns):
    """Metric rows from columns (score=[...]), everything else healthy."""
    n = max(len(column) for column in columns.values())
    made = [dict(HEALTHY) for _ in range(n)]
    for name, column in columns.items():
        for row, value in zip(made, column, strict=True):
            row[f"objective/{name}"] = value
    return made


def state(step=5, **data):
    return SimpleNamespace(step=step, data=data, metrics={})


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_numbers_that_are_none():
    for bad in (math.nan, math.inf, -math.inf):
        assert measures.not_finite([{**HEALTHY, "ppo/loss/total": bad, "x": bad, "sample": "text"}], state()) == 2
    assert measures.not_finite([HEALTHY], state()) == 0


def test_a_falling_score():
    quiet = [0.0, 0.01, -0.01, 0.0, 0.0]
    fallen = measures.score_drop(rows(score=[*quiet, *[x - 2.0 for x in quiet]]), state())
    error = math.hypot(*[measures.standard_error(quiet)] * 2)
    assert fallen == pytest.approx(2.0 - 4.0 * error)
    noisy = [2.0, -2.0, 2.0, -2.0, 0.0]
    assert measures.score_drop(rows(score=[*noisy, *[x - 1.0 for x in noisy]]), state()) < 0, "within the noise"
    assert measures.score_drop(rows(score=[*quiet, *[-9.0] * 4]), state()) is None, "too early to say"


def test_kl_as_a_share_of_entropy():
    assert measures.kl_share(rows(kl=[0.0, 30.0, 40.0, 50.0]), state()) == pytest.approx(1.0)
    assert measures.kl_share(rows(kl=[0.0, 50.0]), state()) is None, "two updates are no trend"


def test_negative_kl():
    assert measures.negative_kl(rows(kl=[0.0, -2.0, -2.1, -1.9, -2.0, -2.0]), state()) == pytest.approx(
        2.0 - 4 * measures.standard_error([-2.0, -2.1, -1.9, -2.0, -2.0])
    )
    assert measures.negative_kl(rows(kl=[-3.0, 2.0, -2.5, 1.0, -1.0]), state()) < 0, "noise, though large"
    assert measures.negative_kl(rows(kl=[-2.0] * 4), state()) is None


def test_the_first_ratio_is_asked_in_float32_only():
    row = {**HEALTHY, "ppo/policy/first_ratio_error": 0.8}
    here = SimpleNamespace(model=SimpleNamespace(autocast=None), data={})
    assert measures.first_ratio([HEALTHY, row], here) == 0.8 and measures.first_ratio([HEALTHY], here) is None
    here.model.autocast = torch.bfloat16
    assert measures.first_ratio([row], here) is None, "rounding alone moves a ratio that far"
    assert measures.first_ratio([row], state()) is None, "a metrics file doesn't say in which precision it was made"


def test_bounds_that_follow_from_arithmetic_say_what_they_should():
    """Each just above and just below: the noise is in the number, so 0 is the bound."""
    fixed = {name: Monitor(name, measure, monitors.FIXED_BOUNDS[name], monitors.SENTENCES[name])
             for name, measure in monitors.ON_METRICS.items() if name in monitors.FIXED_BOUNDS}  # fmt: skip
    negative, quiet = [-1.0, -1.1, -0.9, -1.0, -1.0], [0.0, 0.01, -0.01, 0.0, 0.0]
    assert "0.9 nats below 0" in fixed["kl_negative"](rows(kl=negative), state())
    assert fixed["kl_negative"](rows(kl=[-1.0, 2.0, -2.5, 0.0, -1.0]), state()) is None
    assert fixed["kl_negative"](rows(kl=[0.0] * 5), state()) is None
    assert "fell by 1.0 beyond noise" in fixed["score_falls"](rows(score=[*quiet, *[x - 1.0 for x in quiet]]), state())
    assert fixed["score_falls"](rows(score=[-1.0] * 10), state()) is None, "a score that stands still hasn't fallen"
    assert "95% of the entropy" in fixed["entropy_collapses"](rows(entropy=[40.0, 2.0, 2.0, 2.0]), state())
    assert fixed["entropy_collapses"](rows(entropy=[40.0, 12.0, 12.0, 12.0]), state()) is None, "quoting is healthy"
    same = torch.arange(160).view(10, 16)
    same[:6] = same[0]
    assert "60% of a batch's responses" in fixed["sameness"](rows(kl=[0.0]), state(responses=same))
    same[5] += 1000
    assert fixed["sameness"](rows(kl=[0.0]), state(responses=same)) is None, "5 of 10 are not most of them"


def test_entropy_and_penalised():
    assert measures.entropy_lost(rows(entropy=[40.0, 9.0, 4.0, 5.0]), state()) == pytest.approx(1 - 6 / 40)
    assert measures.penalised(rows(penalised=[0.0] + [0.5] * 5 + [1.0] * 5), state()) == pytest.approx(0.75)
    assert measures.penalised(rows(penalised=[1.0] * 9), state()) is None


def test_repeated_share_equals_a_count_by_hand():
    circle = torch.tensor([[1, 2, 1, 2, 1, 2, 1, 2], [1, 2, 3, 4, 5, 6, 7, 8]])
    assert measures.repeated_share(circle).tolist() == pytest.approx([3 / 5, 0.0])
    dice = torch.randint(0, 2, (5, 12), generator=torch.Generator().manual_seed(0))
    for row, share in zip(dice.tolist(), measures.repeated_share(dice).tolist(), strict=True):
        grams = [tuple(row[i : i + 4]) for i in range(9)]
        assert share == pytest.approx(sum(gram in grams[:i] for i, gram in enumerate(grams)) / 9)
    assert measures.repeated_share(torch.ones(2, 3)).tolist() == [0.0, 0.0], "shorter than a 4-gram"


def test_circles_and_sameness():
    varied = torch.arange(160).view(10, 16)
    assert measures.circles([], state(responses=varied)) == measures.sameness([], state(responses=varied)) == 0
    assert measures.circles([], state(responses=torch.ones(10, 16, dtype=torch.long))) == pytest.approx(12 / 13)
    same = varied.clone()
    same[:6] = same[0]
    assert measures.sameness([], state(responses=same)) == pytest.approx(0.6)
    assert measures.circles([], state()) is measures.sameness([], state()) is None, "reward fitting has no responses"


def test_a_monitor_speaks_above_its_bound_only():
    monitor = Monitor("kl_too_high", measures.kl_share, 1.0, monitors.SENTENCES["kl_too_high"])
    assert "110% of the base's entropy (bound 100%)" in monitor(rows(kl=[44.0] * 3), state())
    assert monitor(rows(kl=[40.0] * 3), state()) is None
    assert monitor.judge(None) is monitor.judge(math.nan) is None


def test_every_sentence_can_be_said():
    for name, sentence in monitors.SENTENCES.items():
        said = Monitor(name, lambda *_: 2.0, 1.0, sentence)([], state())
        assert said.endswith(".") and "{" not in said


# -- the probe ---------------------------------------------------------------------------------------------------------


def comparisons(task, n=40):
    """Four responses with 4, 2, 1 and 0 letters a, in a random order; the first is best and the last worst."""
    generator = torch.Generator().manual_seed(0)
    a, b = task.encode("a")[0], task.encode("b")[0]
    order = torch.stack([torch.randperm(4, generator=generator) for _ in range(n)])
    made = torch.full((n, 4, 8), b)
    for kind, letters in enumerate((4, 2, 1, 0)):
        made[torch.arange(n), order[:, kind], :letters] = a
    queries = torch.randint(1, 27, (n, 12), generator=generator)
    everything = torch.ones(n, 4, 8, dtype=torch.bool)
    data = Comparisons(queries, torch.ones(n, 12, dtype=torch.bool), made, everything, order[:, 0])
    return data, order[:, 3]


@pytest.fixture(scope="module")
def task():
    return small_ppo.task()


@pytest.fixture(scope="module")
def reference():
    return Policy(tiny_lm()).frozen_copy()


@pytest.fixture(scope="module")
def probe(task):
    return probes.probe_from_labels(*comparisons(task))


def test_a_probe_from_labels(task):
    data, worst = comparisons(task)
    probe, score = probes.probe_from_labels(data, worst, pairs=30), small_ppo.letter_score(task)
    everything = (probe.query_ids, probe.query_mask)
    assert score(*everything, probe.best, probe.best_mask).tolist() == [3.0] * 30
    assert score(*everything, probe.worst, probe.worst_mask).tolist() == [-1.0] * 30
    assert probes.right_orders(probe, score, chunk=7) == 30
    without = probes.probe_from_labels(data)
    assert len(without) == 40 and probes.right_orders(without, score) == 40
    with pytest.raises(KitError, match="same response"):
        probes.probe_from_labels(data, data.best)


def test_a_probe_from_the_base_is_labeled_best_and_worst(task, reference):
    data, _ = comparisons(task, 20)
    queries = Queries(data.query_ids, data.query_mask, list(range(20)))
    made = probes.make_probe(reference, queries, task, lambda text: text.count("a"), 0.0, seed=3, each=8)
    letter = task.encode("a")[0]
    best, worst = [
        ((ids == letter) & mask).sum(1) for ids, mask in ((made.best, made.best_mask), (made.worst, made.worst_mask))
    ]
    drawn = reference.sample(queries.ids, queries.mask, 8, 0.7, torch.Generator().manual_seed(3), repeats=8).responses
    cut, mask = task.truncate(drawn)
    counts = ((cut == letter) & mask).sum(1).view(20, 8)
    tied = counts.max(1).values == counts.min(1).values  # where all are alike, two different ones will do
    assert torch.equal(best, counts.max(1).values) and torch.equal(worst[~tied], counts.min(1).values[~tied])
    assert (made.best != made.worst).any(1)[~tied].all() and (~tied).sum() > 5
    again = probes.make_probe(reference, queries, task, lambda text: text.count("a"), 0.0, seed=3, each=8)
    assert torch.equal(made.best, again.best) and torch.equal(made.worst, again.worst)


def test_the_order_of_the_score(task, probe):
    score = small_ppo.letter_score(task)
    assert probe_measures.wrong_order(probe, score)([], state()) == pytest.approx(-math.sqrt(40))
    assert probe_measures.wrong_order(probe, lambda *x: -score(*x))([], state()) == pytest.approx(math.sqrt(40))
    chance = torch.Generator().manual_seed(0)
    for _ in range(30):
        found = probe_measures.wrong_order(probe, lambda *x: torch.rand(len(x[0]), generator=chance))([], state())
        assert found < monitors.PROBE_ERRORS


def test_log_ratio_gaps_are_zero_before_training_and_equal_a_sum_by_hand(task, probe, reference):
    policy = reference.frozen_copy()
    assert probes.log_ratio_gaps(probe, policy, reference, task).abs().max() == 0
    with torch.no_grad():
        policy.lm.get_output_embeddings().weight.add_(0.01)
    gaps = probes.log_ratio_gaps(probe, policy, reference, task)

    def total(model, ids):
        logits = model.lm(torch.cat([probe.query_ids[:1], ids[:1]], 1)).logits[0, 11:-1] / task.text.temperature
        return logits.log_softmax(-1).gather(1, ids[0][:, None]).sum()

    by_hand = [total(policy, ids) - total(reference, ids) for ids in (probe.best, probe.worst)]
    assert float(gaps[0]) == pytest.approx(float(by_hand[0] - by_hand[1]), abs=1e-4)
    saved = probes.log_likelihoods(probe, reference, task)
    assert torch.equal(gaps, probes.log_ratio_gaps(probe, policy, reference, task, saved))


def test_the_effect_is_a_paired_t_without_its_sample_size():
    scipy_stats = pytest.importorskip("scipy.stats")
    gaps = torch.randn(50, generator=torch.Generator().manual_seed(0)) + 0.3
    t = scipy_stats.ttest_1samp(gaps.numpy(), 0.0).statistic
    assert probes.effect(gaps) == pytest.approx(t / math.sqrt(50), rel=1e-5)
    assert probes.effect(7 * gaps) == pytest.approx(probes.effect(gaps)), "no matter how far the policy has gone"
    assert probes.effect(torch.zeros(5)) is None


# -- runs that are really sick -----------------------------------------------------------------------------------------


def watched(task, reference, probe, cfg, score_fn=None, only=None):
    """Train with all monitors on; the final state."""
    score = score_fn or small_ppo.letter_score(task)
    asked = monitors.standard_monitors(task, reference, score, probe, BOUNDS)
    asked = [monitor for monitor in asked if only in (None, monitor.name)]
    return small_ppo.run(cfg, [monitors.Watch(asked)], score, reference=reference)


def test_a_healthy_run_is_left_alone(task, reference, probe):
    state = watched(task, reference, probe, small_ppo.config(30, lr=3e-4, kl_coef=0.3))
    assert state.stopped is None and state.step == 30


def test_a_flipped_reward_is_stopped_at_once(task, reference, probe):
    score = small_ppo.letter_score(task)
    state = watched(task, reference, probe, small_ppo.config(30), lambda *x: -score(*x))
    assert state.step == 1 and "its sign is flipped" in state.stopped and "after update 1:" in state.stopped


def batch(task, score, n=16, seed=0):
    """What a trainer leaves of an update of random responses: its own scores are the score function's."""
    drawn = torch.randint(1, 27, (n, 8), generator=torch.Generator().manual_seed(seed))
    queries = torch.ones(n, 12, dtype=torch.long)
    scores = score(queries, queries > 0, *task.truncate(drawn))
    return {"query_ids": queries, "query_mask": queries > 0, "responses": drawn, "scores": scores,
            "passes": torch.ones(n, dtype=torch.bool)}  # fmt: skip


def test_the_asked_score_is_welchs_t(task, reference, probe):
    """Of the base one number a prompt, the mean of its samples."""
    scipy_stats = pytest.importorskip("scipy.stats")
    score, asked, kept = small_ppo.letter_score(task), [], []
    for n in range(3):
        # a new process each time knows what the rows know
        asks = probe_measures.asker(task, score)
        measure = probe_measures.asked_score_drop(probe, reference, task, score, asks)
        given = batch(task, score, seed=n)
        asked.append(given["scores"])
        kept.append({})
        found = measure(kept, state(**given))
        assert (found is None) == (n < 2), "three updates are averaged"
    generator = torch.Generator().manual_seed(0)
    queries = [t.repeat_interleave(probe_measures.BASE_SAMPLES, 0) for t in (probe.query_ids, probe.query_mask)]
    base = score(None, None, *task.truncate(reference.sample(*queries, 8, 0.7, generator).responses))
    means = base.view(len(probe), probe_measures.BASE_SAMPLES).mean(1)
    t = scipy_stats.ttest_ind(means.numpy(), torch.cat(asked).numpy(), equal_var=False).statistic
    assert found == pytest.approx(t, rel=1e-5)


def test_the_score_is_asked_once_a_batch_for_all_who_want_to_know(task):
    score, calls = small_ppo.letter_score(task), []
    ask = probe_measures.asker(task, lambda *x: calls.append(len(x[0])) or score(*x))
    first, second = (state(**batch(task, score, seed=n)) for n in (0, 1))
    assert torch.equal(ask(first), first.data["scores"].double()) and torch.equal(ask(first), ask(first))
    assert torch.equal(ask(second), second.data["scores"].double()) and calls == [16, 16]
    assert ask(state()) is None, "reward fitting has no responses"


def test_the_trainers_scores_beside_the_score_functions(task):
    numpy = pytest.importorskip("numpy")
    score = small_ppo.letter_score(task, "e")
    given = batch(task, score, n=200)
    right = given["scores"].clone()

    def found(**changes):
        return probe_measures.disagreement(probe_measures.asker(task, score))([{}], state(**{**given, **changes}))

    assert found() == pytest.approx(-1.0) and found(scores=3 * right - 5) == pytest.approx(-1.0), "scaled is the same"
    assert found(scores=-right) == pytest.approx(1.0)
    noisy = right + torch.randn(200, generator=torch.Generator().manual_seed(0))
    assert found(scores=noisy) == pytest.approx(-numpy.corrcoef(right.numpy(), noisy.numpy())[0, 1], abs=1e-6)
    late = torch.arange(200) % 2 == 0
    penalised = torch.where(late, right, torch.full_like(right, -1.0))
    assert found(scores=penalised, passes=late) == pytest.approx(-1.0), "those with the penalty are left out"
    few = torch.arange(200) < 3
    assert found(passes=few) is None and found(scores=torch.ones(200)) is None, "nothing to correlate"
    assert probe_measures.disagreement(probe_measures.asker(task, score))([{}], state()) is None


def test_a_sign_lost_between_the_score_function_and_the_trainer_is_stopped_at_once(task, reference, probe):
    """The monitors are given the right score, the trainer a wrapped one; the probe's order cannot show it."""
    score = small_ppo.letter_score(task)
    asked = monitors.standard_monitors(task, reference, score, probe, BOUNDS)
    flipped = small_ppo.run(small_ppo.config(30), [monitors.Watch(asked)], lambda *x: -score(*x), reference=reference)
    assert flipped.step <= 3, "with the first batch whose scores differ at all"
    assert "go the other way" in flipped.stopped and "correlation -1.00" in flipped.stopped


def test_the_log_ratio_catches_what_the_score_alone_cannot(task, reference, probe):
    """The score asked of the probe is right, the one that trains is flipped, and nobody compares the two."""
    flipped = small_ppo.letter_score(task)
    asked = monitors.standard_monitors(task, reference, flipped, probe, BOUNDS)
    watch = monitors.Watch([monitor for monitor in asked if monitor.name in ("score_order", "log_ratio_order")])
    # seeds 2 to 6 are caught early; seed 1 learns late, at an update that hangs on how sums round
    state = small_ppo.run(small_ppo.config(40, lr=3e-3), [watch], lambda *x: -flipped(*x), reference=reference, seed=2)
    assert state.stopped and "towards the worse of two" in state.stopped and state.step <= 30


def test_a_flipped_kl_penalty_runs_away(task, reference, probe):
    state = watched(task, reference, None, small_ppo.config(60, kl_coef=-1.0, lr=3e-3))
    assert state.stopped and state.step <= 30
    assert any(word in state.stopped for word in ("runs away", "repeat", "over and over", "fell by", "more than one"))


def test_policy_and_reference_in_the_wrong_order_make_kl_negative(task, reference, probe, monkeypatch):
    monkeypatch.setattr(ppo.Rollout, "kl", property(lambda self: self.ref_logprobs - self.logprobs))
    state = watched(task, reference, probe, small_ppo.config(30, kl_coef=0.0), only="kl_negative")
    assert state.stopped and "cannot be" in state.stopped and state.step <= 15


def test_a_finished_run_can_be_replayed():
    """A run of 20 updates that was never watched: KL above the base's entropy from the eighth on."""
    kl = [1.0] * 7 + [50.0] * 13
    update, name, _ = monitors.replay(rows(kl=kl), BOUNDS)
    assert (update, name) == (10, "kl_too_high"), "three updates above it: 50 / 40 > 1"
    assert monitors.replay(rows(kl=[1.0] * 20), BOUNDS) is None


def test_no_recorded_healthy_training_would_have_been_pulled():
    """Those of the style notebook: every training in full, by what its metrics tell."""
    from rlhf_lib.style_sweep import recorded

    runs = recorded("style_curves").groupby(["task", "labels", "seed"])
    assert len(runs) >= 6
    for name, frame in runs:
        assert monitors.replay(frame.sort_values("step").to_dict("records")) is None, name


# -- the callback ------------------------------------------------------------------------------------------------------


def finite_only():
    return [Monitor("not_finite", measures.not_finite, 0.0, monitors.SENTENCES["not_finite"])]


def test_a_pull_is_recorded_and_has_to_be_released(tmp_path):
    store = LabelStore(str(tmp_path / "labels.sqlite"))
    watch = monitors.Watch(finite_only(), run="r", store=store)
    train = SimpleNamespace(step=7, data={}, metrics={**HEALTHY})
    watch(train)
    assert train.metrics["monitor/not_finite"] == 0.0
    train.metrics = {**HEALTHY, "objective/score": math.nan}
    with pytest.raises(StopTraining, match="after update 7: A number"):
        watch(train)
    with pytest.raises(KitError, match="a monitor pulled the cord for the run r .*NaN or infinite"):
        andon.AndonCord("r", store)
    andon.AndonCord("other", store)


def test_who_only_listens_stops_nothing_and_can_be_asked_later():
    watch, seen = monitors.Watch(finite_only(), stops=False), []
    for score in (0.5, math.nan, 0.5):
        train = SimpleNamespace(step=len(seen) + 1, data={}, metrics={**HEALTHY, "objective/score": score})
        watch(train)
        seen.append(train.metrics)
    update, name, sentence = monitors.first_pull(seen, finite_only())
    assert (update, name) == (2, "not_finite") and "NaN" in sentence
    assert monitors.first_pull(seen[:1], finite_only()) is None


def test_a_resumed_run_remembers_its_first_updates():
    monitor = Monitor("entropy_collapses", measures.entropy_lost, 0.9, monitors.SENTENCES["entropy_collapses"])
    watch = monitors.Watch([monitor], rows(entropy=[40.0, 30.0, 20.0]))
    for _ in range(2):
        watch(SimpleNamespace(step=4, data={}, metrics={**HEALTHY, "objective/entropy": 1.0}))
    with pytest.raises(StopTraining, match="98% of the entropy is gone"):
        watch(SimpleNamespace(step=6, data={}, metrics={**HEALTHY, "objective/entropy": 1.0}))


def test_bounds_come_from_a_calibration(tmp_path, task, reference, probe):
    with pytest.raises(KitError, match="not calibrated.*rlhf_lib calibrate"):
        monitors.recorded_bounds(tmp_path / "none.json")
    (tmp_path / "some.json").write_text(json.dumps({"bounds": {"sameness": 0.25}}))
    bounds = monitors.recorded_bounds(tmp_path / "some.json")
    assert bounds == {"sameness": 0.25}
    with pytest.raises(KitError, match="no bound for circles, kl_too_high, log_ratio_order, too_many_penalised"):
        monitors.standard_monitors(task, reference, small_ppo.letter_score(task), probe, bounds)


# -- the kit's own runs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return manifest.run_folder(tmp_path_factory.mktemp("run"))


AT_ONCE = {"sign_lost": "score_order", "total_flipped": "score_order", "sign_lost_between": "scores_disagree",
           "temperature_once": "ratio_off"}  # fmt: skip


@pytest.mark.parametrize("kind, by", AT_ONCE.items())
def test_a_sick_run_of_the_real_base_is_stopped_after_its_first_update(folder, kind, by):
    """The fixed bounds alone: nothing here hangs on a calibration. Seed 21 is none that anything was fitted on."""
    bounds = {**monitors.unbounded(), **monitors.FIXED_BOUNDS}
    run = casebook.CaseRun(folder, kind, 2, seed=21, bounds=bounds)
    (row,) = run.rows().to_dict("records")
    pulls = [m.name for m in run.monitors(bounds) if m.judge(row.get(f"monitor/{m.name}"))]
    assert pulls == [by]


def test_a_sign_lost_behind_all_that_can_be_asked_is_left_to_the_log_ratio(folder):
    asked = [m.name for m in casebook.CaseRun(folder, "sign_lost_unseen", 2, seed=21).monitors(monitors.unbounded())]
    assert "log_ratio_order" in asked and "scores_disagree" not in asked
    rows = casebook.CaseRun(folder, "sign_lost_unseen", 2, seed=21).rows()
    assert (rows["monitor/score_order"] < 0).all() and "monitor/scores_disagree" not in rows
