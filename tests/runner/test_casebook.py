"""The casebook and the calibration: each case breaks what it says, bounds stand between healthy and sick."""

import json
import math

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from rlhf_lib import calibration, casebook, manifest, monitors  # noqa: E402
from rlhf_lib.casebook import CASES, CaseRun  # noqa: E402
from rlhf_lib.errors import KitError  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return manifest.run_folder(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def healthy(folder):
    return CaseRun(folder, "fixed", 2).parts()


def parts(folder, kind):
    return CaseRun(folder, kind, 2).parts()


# -- what is broken ----------------------------------------------------------------------------------------------------


def test_six_cases_each_with_a_monitor_a_sign_and_a_cure():
    assert len(casebook.CASEBOOK) == len(CASES) == 6
    assert {case.monitor for case in casebook.CASEBOOK} <= set(monitors.SENTENCES)
    assert all(
        case.broken.endswith(".") and case.sign.endswith(".") and case.cure.endswith(".") for case in CASES.values()
    )


def test_every_broken_kind_has_a_title_that_reads():
    """No run name with underscores where a reader looks, none twice, and none too wide for a panel."""
    titles = [casebook.title(kind) for kind in (*CASES, *casebook.MORE)]
    assert len(set(titles)) == len(titles) and not any("_" in title for title in titles)
    assert max(len(case.title) for case in CASES.values()) <= 28
    assert set(casebook.MORE_TITLES) == set(casebook.MORE) and casebook.title("fixed") == "fixed"


def test_the_signs(folder, healthy):
    task = healthy.task
    ids = torch.tensor([task.encode("It was a terrible day")[:5]])
    given = (ids, ids > 0, ids, torch.ones_like(ids, dtype=torch.bool))
    lost, paid, both = (parts(folder, kind) for kind in ("sign_lost", "kl_paid", "total_flipped"))
    right = healthy.score_fn(*given)
    assert right < 0 and torch.equal(lost.score_fn(*given), -right) and lost.cfg == healthy.cfg
    assert paid.cfg.kl_coef == -healthy.cfg.kl_coef < 0 and torch.equal(paid.score_fn(*given), right)
    assert both.cfg == paid.cfg and torch.equal(both.score_fn(*given), -right)


def test_a_sign_is_lost_in_three_places(folder, healthy):
    """What PPO is given is the same; what the monitors are given is not."""
    ids = torch.tensor([healthy.task.encode("It was a terrible day")[:5]])
    given = (ids, ids > 0, ids, torch.ones_like(ids, dtype=torch.bool))
    for kind in ("sign_lost", *casebook.PAST_IT):
        assert torch.equal(parts(folder, kind).score_fn(*given), -healthy.score_fn(*given))
    assert set(casebook.MEASURED_ONLY) == set(casebook.DEAF) < set(casebook.PAST_IT) < set(casebook.MORE)


def test_the_rates_and_the_rule(folder, healthy):
    assert parts(folder, "too_fast").cfg.lr == pytest.approx(10 * healthy.cfg.lr)
    slow = parts(folder, "temperature_slow")
    assert slow.cfg.lr == pytest.approx(healthy.cfg.lr / 10) and isinstance(slow.policy, casebook.Undivided)
    assert parts(folder, "no_penalty").cfg.kl_coef == 0.0
    ends = torch.full((1, 24), healthy.task.truncate_id)
    assert healthy.task.passes(ends).all() and not parts(folder, "never_ends").task.passes(ends).any()


def test_a_temperature_in_one_place_only_makes_the_first_kl_negative(folder, healthy):
    """The mean log-ratio is minus the KL from the sampled to the flatter distribution, and so below 0."""
    undivided, queries = (
        parts(folder, "temperature_once").policy,
        CaseRun(folder, "fixed", 2).world.style.queries(16, "test", 1),
    )
    given = (queries.ids, queries.mask, 24, 0.7)
    right = healthy.policy.sample(*given, torch.Generator().manual_seed(0))
    wrong = undivided.sample(*given, torch.Generator().manual_seed(0))
    assert torch.equal(right.responses, wrong.responses), "the samples are the same; only what is noted of them differs"
    at_one = healthy.policy.logprobs(queries.ids, queries.mask, right.responses, 1.0)
    assert torch.allclose(wrong.logprobs, at_one, atol=1e-5)
    assert (wrong.logprobs - right.logprobs).sum(1).mean() < -0.5


def test_an_unknown_case_is_told(folder):
    with pytest.raises(KitError, match="no case 'gremlins'; choose one of fixed, adaptive, sign_lost"):
        CaseRun(folder, "gremlins", 2).parts()


def test_a_case_runs_is_listened_to_and_is_stopped_at_a_bound(folder):
    rows = CaseRun(folder, "never_ends", 2).rows()
    assert list(rows.step) == [1, 2] and (rows["objective/score"] == -1.0).all()
    assert rows["monitor/sameness"].between(0, 1).all()
    bounds = {**monitors.unbounded(), "score_order": -1e9}
    stopped = CaseRun(folder, "never_ends", 2, bounds=bounds).rows()
    assert len(stopped) == 1, "stopped after the first update, by the only bound that can be passed"
    done = calibration.tried(folder, "never_ends", 2, "tiny", 1, bounds)
    assert (done["update"], done["monitor"]) == (1, "score_order")


# -- bounds ------------------------------------------------------------------------------------------------------------


def made_up(seed=0):
    """Listened runs as numbers only: sign_lost stands clear of the healthy, kl_paid does not in one seed."""
    dice, frames = np.random.default_rng(seed), []
    for kind in ("fixed", "adaptive", *CASES, *casebook.MORE):
        for s in (1, 2, 3):
            frame = pd.DataFrame({"step": range(1, 13), "kind": kind, "seed": s})
            for name in monitors.SENTENCES:
                high = 2.0 if name == "log_ratio_order" and kind == "sign_lost" else 0.0
                high = 3.0 if name == "kl_too_high" and kind == "kl_paid" and s != 2 else high
                high = 5.0 if name == "circles" and kind == "too_fast" else high
                frame[f"monitor/{name}"] = dice.uniform(0, 1, 12) + high * (frame.step > 4)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def test_a_bound_stands_half_way_between_healthy_and_sick():
    rows, column = made_up(), "monitor/log_ratio_order"
    found = calibration.bound_between(rows, "log_ratio_order")
    healthy = rows[rows.kind.isin(casebook.HEALTHY)][column].max()
    sick = rows[rows.kind == "sign_lost"].groupby("seed")[column].max().min()
    assert found["bound"] == pytest.approx((healthy + sick) / 2) and found["told_by"] == "sign_lost"
    assert found["healthy"] == healthy and found["sick"]["sign_lost"] == sick


def test_a_monitor_without_a_case_of_its_own_takes_what_it_tells_best():
    assert calibration.bound_between(made_up(), "circles")["told_by"] == "too_fast"


def test_a_monitor_that_cannot_tell_stays_silent():
    rows = made_up()
    rows.loc[(rows.kind == "kl_paid") & (rows.seed == 2), "monitor/kl_too_high"] = 0.0
    assert math.isinf(calibration.bound_between(rows, "kl_too_high")["bound"])


def test_a_fixed_bound_stays_where_it_is_and_what_the_runs_show_is_told():
    rows = made_up()
    found = calibration.bound_between(rows, "score_order")
    assert found["bound"] == monitors.FIXED_BOUNDS["score_order"] and found["fixed"] and found["told_by"] == "sign_lost"
    assert found["healthy"] == rows[rows.kind.isin(casebook.HEALTHY)]["monitor/score_order"].max()
    assert not calibration.bound_between(rows, "log_ratio_order")["fixed"]


def test_told_apart_equals_another_area_under_the_curve():
    metrics = pytest.importorskip("sklearn.metrics")
    rows = made_up(3)
    found = calibration.told_apart(rows, "sameness", "sign_lost").set_index("update")
    kept = rows[(rows.step == 7) & (rows.kind.isin(casebook.HEALTHY) | (rows.kind == "sign_lost"))]
    area = metrics.roc_auc_score(kept.kind == "sign_lost", kept["monitor/sameness"])
    assert found.auc[7] == pytest.approx(area)
    assert calibration.told_apart(rows, "log_ratio_order", "sign_lost").set_index("update").auc[12] == 1.0


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    """The trainings are made-up numbers here; everything after them is real."""
    rows = made_up()

    def measured(self):
        mine = rows[(rows.kind == self.kind) & (rows.seed == 1 + self.seed % 3)]
        if self.bounds is None:
            return mine.assign(seed=self.seed)
        over = [(mine[f"monitor/{n}"] > b).to_numpy() for n, b in self.bounds.items()]
        first = np.argmax(np.any(over, axis=0)) if np.any(over) else len(mine) - 1
        return mine.head(min(self.updates, first + 1))

    named = [monitors.Monitor(n, lambda *_: None, 0.0, s) for n, s in monitors.SENTENCES.items()]
    monkeypatch.setattr(CaseRun, "rows", measured)
    monkeypatch.setattr(CaseRun, "monitors", lambda self, bounds=None: [
        monitors.Monitor(m.name, m.measure, bounds[m.name], m.sentence) for m in named])  # fmt: skip
    monkeypatch.setattr(calibration, "FIXED_BOUNDS", dict.fromkeys(monitors.FIXED_BOUNDS, 9.0))
    out = tmp_path / "monitors_calibration.json"
    assert calibration.main(["--run", str(tmp_path / "run"), "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert len(written["unseen_healthy"]) == 30 and written["false_pulls"] == 0
    assert written["updates_to_stop"]["sign_lost"] <= 12 and written["updates_to_stop"]["temperature_once"] == 31
    assert "False pulls: 0 of 30" in capsys.readouterr().out
    assert len(pd.read_parquet(tmp_path / "monitors_runs.parquet")) == len(rows)


def test_the_recorded_calibration_keeps_what_the_issue_asks():
    """On seeds that no bound was fixed on: no healthy run pulled, the flipped one within 10 updates, others 30."""
    found, _ = calibration.recorded()
    assert not {r["seed"] for r in found["unseen_healthy"] + found["unseen_sick"]} & set(found["seeds"]["fixed_on"])
    assert len(found["unseen_healthy"]) == 30 and found["false_pulls"] == 0
    late = found["updates_to_stop"]
    assert set(late) == {*CASES, *casebook.MORE} and late["sign_lost"] <= 10
    assert max(updates for kind, updates in late.items() if kind not in casebook.MEASURED_ONLY) <= 30


def test_the_recorded_bounds_follow_from_the_recorded_runs():
    """Nobody has typed those that are not fixed."""
    found, rows = calibration.recorded()
    for name, measured in found["measured"].items():
        bound = calibration.bound_between(rows, name)["bound"]
        assert bound == pytest.approx(math.inf if measured["bound"] is None else measured["bound"])
    read = {name: math.inf if bound is None else bound for name, bound in found["bounds"].items()}
    assert monitors.recorded_bounds() == pytest.approx(read)
