"""The Andon cord: what holds, who is told what, and a pull from another process reaching a running trainer."""

import json
import os
import random
import subprocess
import sys
import time

import pytest

from rlhf_lib import __main__ as cli
from rlhf_lib import andon, checkpoint
from rlhf_lib.errors import KitError
from rlhf_lib.labels.schema import Event
from rlhf_lib.labels.store import LabelStore
from rlhf_lib.metrics import MetricsWriter, read_metrics


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path}/labels.sqlite"


@pytest.fixture
def url(request, sqlite_url):
    """The label store of a test: SQLite, or PostgreSQL with what earlier tests left there lifted."""
    if request.param == "sqlite":
        return sqlite_url
    found = request.getfixturevalue("postgres_url")
    if andon.open_pulls(andon.history(LabelStore(found))):
        andon.release("a new test", "pytest", url=found)
    return found


BOTH = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)


# -- what holds --------------------------------------------------------------------------------------------------------


def test_a_pull_holds_until_it_is_released(sqlite_url):
    assert not andon.state("r", sqlite_url).pulled
    andon.pull("gibberish", "Ada", "r", sqlite_url)
    cord = andon.state("r", sqlite_url)
    assert cord.pulled and "Ada pulled the cord for the run r at" in cord.sentence() and "gibberish" in cord.sentence()
    assert not andon.state("other", sqlite_url).pulled and not andon.state(None, sqlite_url).pulled
    andon.release("looked at it", "Bo", "r", sqlite_url)
    assert not andon.state("r", sqlite_url).pulled
    kept = [(e.kind, e.labeler, e.data["reason"]) for e in andon.history(LabelStore(sqlite_url))]
    assert kept == [("andon", "Ada", "gibberish"), ("andon_release", "Bo", "looked at it")]


def test_a_pull_for_all_runs_and_a_release_for_one(sqlite_url):
    andon.pull("the labels are wrong", "Ada", url=sqlite_url)
    andon.release("mine has other labels", "Bo", "r", sqlite_url)
    assert not andon.state("r", sqlite_url).pulled and andon.state("other", sqlite_url).pulled
    andon.release("corrected", "Ada", url=sqlite_url)
    assert not andon.state("other", sqlite_url).pulled


def test_a_release_lifts_only_what_was_there_to_be_read():
    pulls = [Event("andon", id=n, data={"run": "r", "reason": str(n)}) for n in (1, 2)]
    seen_one = Event("andon_release", id=3, data={"run": "r", "lifts": [1]})
    assert [e.id for e in andon.standing([*pulls, seen_one], "r").pulls] == [2]


def test_the_labelers_key_stops_all_runs(sqlite_url):
    event = Event("andon", queue="sentiment", labeler="Ada", data={"reason": ""})  # what a LabelSession appends
    LabelStore(sqlite_url).append(event)
    assert "Ada pulled the cord for all runs" in andon.state("r", sqlite_url).sentence()
    assert "no reason given" in andon.state("r", sqlite_url).sentence()


def test_who_and_why_are_needed_and_something_to_release(sqlite_url):
    for reason, who in (("", "Ada"), ("  ", "Ada"), ("why", "")):
        with pytest.raises(KitError, match="needs a reason and a name"):
            andon.pull(reason, who, url=sqlite_url)
    with pytest.raises(KitError, match="not pulled for any run"):
        andon.release("why", "Ada", url=sqlite_url)
    andon.pull("why", "Ada", "r", sqlite_url)
    with pytest.raises(KitError, match="not pulled for other"):
        andon.release("why", "Ada", "other", sqlite_url)


def test_the_command(sqlite_url, capsys):
    def say(*words):
        return cli.main(["andon", *words, "--url", sqlite_url]), capsys.readouterr()

    assert say("pull", "--reason", "gibberish", "--who", "Ada", "--run", "r")[0] == 0
    assert "Ada pulled the cord for the run r" in say("status", "--run", "r")[1].out
    assert "Ada pulled the cord for the run r" in say("status")[1].out
    assert "not pulled" in say("status", "--run", "other")[1].out
    assert "1 pull lifted by Bo" in say("release", "--reason", "looked at it", "--who", "Bo")[1].out
    code, said = say("release", "--reason", "again")
    assert code == 2 and "nothing to release" in said.err
    assert say("pull")[0] == 2


def fold_by_hand(events, run):
    """An oracle that walks the record forwards, keeping the pulls that hold for a run."""
    holding = []
    for event in events:
        if event.data["run"] not in (None, run):
            continue
        if event.kind == "andon":
            holding.append(event.id)
        else:
            holding = [number for number in holding if number not in event.data["lifts"]]
    return holding


def test_any_sequence_of_pulls_and_releases_equals_a_forward_fold(sqlite_url):
    dice, store = random.Random(0), LabelStore(sqlite_url)
    for step in range(60):
        run = dice.choice([None, "a", "b"])
        try:
            (andon.pull if dice.random() < 0.6 else andon.release)(f"step {step}", "Ada", run, sqlite_url)
        except KitError:
            assert not (
                andon.standing(andon.history(store), run).pulls if run else andon.open_pulls(andon.history(store))
            )
        for name in ("a", "b"):
            assert [e.id for e in andon.standing(andon.history(store), name).pulls] == fold_by_hand(
                andon.history(store), name
            )


# -- trainers ----------------------------------------------------------------------------------------------------------


def rows_of(path):
    """The metrics, without the clock's share."""
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in read_metrics(path)]


def train(folder, cfg, extra=()):
    """Start or go on with the run in a folder, as a user would: metrics, checkpoints, then whatever watches."""
    from tests.runner import small_ppo

    saved = checkpoint.load(folder)
    callbacks = [MetricsWriter(folder / "metrics.jsonl", saved["step"] if saved else 0)]
    callbacks += [checkpoint.Checkpointer(folder, every=5), *extra]
    return small_ppo.run(cfg, callbacks, resume=saved)


PULL = """
import sys, time
from rlhf_lib import andon
andon.pull("gibberish", "Ada", "r", sys.argv[1])
print(time.time(), flush=True)  # acknowledged
"""


@BOTH
def test_a_pull_from_another_process_stops_within_an_update_and_resumes_exactly(tmp_path, url):
    from tests.runner import small_ppo

    cfg = small_ppo.config(updates=5000)
    store, ends, puller = LabelStore(url), [], []

    def clock(state):
        ends.append(time.time())
        if state.step == 3:
            puller.append(subprocess.Popen([sys.executable, "-c", PULL, url], stdout=subprocess.PIPE, text=True))

    (tmp_path / "run").mkdir()
    state = train(tmp_path / "run", cfg, [clock, andon.AndonCord("r", store, tmp_path / "run")])
    acknowledged = float(puller[0].communicate()[0])
    made = andon.history(store)[-1].at
    assert state.step > 3 and ends[-1] >= made - 0.001, "not before it"
    assert sum(end > acknowledged for end in ends) <= 1, "with the first update that ended after it, at the latest"
    for words in ("Ada pulled the cord for the run r", "gibberish", f"after update {state.step}", "andon release"):
        assert words in state.stopped
    assert checkpoint.load(tmp_path / "run")["step"] == state.step, "a full checkpoint is saved"

    with pytest.raises(KitError, match="Ada pulled the cord.*andon release"):
        andon.AndonCord("r", store)
    andon.release("looked at it", "Bo", "r", url)
    total = state.step + 3
    train(tmp_path / "run", cfg, [andon.AndonCord("r", store), stop_at(total)])
    (tmp_path / "whole").mkdir()
    train(tmp_path / "whole", cfg, [stop_at(total)])
    assert rows_of(tmp_path / "run/metrics.jsonl") == rows_of(tmp_path / "whole/metrics.jsonl")
    assert len(rows_of(tmp_path / "whole/metrics.jsonl")) == total


def pulled_at_update_2(tmp_path, url, pull):
    """A training during whose second update somebody pulls; where it stops, and with which words."""
    from tests.runner import small_ppo

    def somebody(state):
        if state.step == 2:
            pull()

    cord = andon.AndonCord("r", LabelStore(url), tmp_path / "run")
    state = small_ppo.run(small_ppo.config(updates=6), [somebody, cord])
    return state.step, state.stopped


@pytest.mark.parametrize("way", ["button", "key"])
def test_the_labelers_button_and_key_stop_a_running_training(tmp_path, sqlite_url, way):
    from rlhf_lib.labels import LabelSession
    from rlhf_lib.labels.widgets import Labeler

    store = LabelStore(sqlite_url)
    store.add_items("style", [{"query": "Q", "samples": list("abcd")}])
    box = Labeler(LabelSession(store, "Ada", "style"))
    step, said = pulled_at_update_2(
        tmp_path, sqlite_url, box.buttons["andon"].click if way == "button" else lambda: box.press("!")
    )
    assert step == 2 and "Ada pulled the cord for all runs" in said and "andon release" in said


@BOTH
def test_the_command_in_another_process_stops_a_running_training(tmp_path, url):
    words = ["andon", "pull", "--reason", "all about mud", "--who", "Ada", "--run", "r"]
    run = {"check": True, "stdout": subprocess.DEVNULL, "env": {**os.environ, "RLHF_LABELS_URL": url}}
    step, said = pulled_at_update_2(
        tmp_path, url, lambda: subprocess.run([sys.executable, "-m", "rlhf_lib", *words], **run)
    )
    assert step == 2 and "Ada pulled the cord for the run r" in said and "all about mud" in said


def test_a_fire_drill_measures_what_the_cord_promises(tmp_path, sqlite_url):
    from rlhf_lib.drill import drill
    from tests.runner import small_ppo

    cfg = small_ppo.config(updates=12)
    slow = [lambda _: time.sleep(0.1)]  # long enough for the pull to find it running
    found = drill(
        lambda callbacks, saved: small_ppo.run(cfg, [*slow, *callbacks], resume=saved), tmp_path / "r", sqlite_url
    )
    assert found["updates_to_stop"] <= 1 and 2 <= found["stopped_after"] < 12 == found["updates"]
    assert found["checkpoint"] and found["same_rows"] and "the drill pulled the cord for the run r" in found["said"]
    kinds = [event.kind for event in andon.history(LabelStore(sqlite_url))]
    assert kinds == ["andon", "andon_release"]


def test_a_drill_in_which_nothing_stops_says_so(tmp_path, sqlite_url, monkeypatch):
    from rlhf_lib.drill import drill
    from tests.runner import small_ppo

    monkeypatch.setattr(andon.AndonCord, "__call__", lambda self, train: None)  # a cord that nobody looks at
    cfg = small_ppo.config(updates=6)
    found = drill(lambda callbacks, saved: small_ppo.run(cfg, callbacks, resume=saved), tmp_path / "r", sqlite_url)
    assert found["updates_to_stop"] == 6 and found["said"] is None


def stop_at(step):
    """A callback that ends a training after an update."""
    from rlhf_lib.training import StopTraining

    def callback(state):
        if state.step == step:
            raise StopTraining("enough")

    return callback


def test_a_store_that_cannot_be_reached_stops_the_run_after_three_looks(sqlite_url, monkeypatch):
    pytest.importorskip("torch")
    from types import SimpleNamespace

    from rlhf_lib.training import StopTraining

    cord = andon.AndonCord("r", LabelStore(sqlite_url))

    def unreachable(_):
        raise KitError("Could not read the label store")

    monkeypatch.setattr(andon, "history", unreachable)
    for step in (1, 2):
        cord(SimpleNamespace(step=step))
    with pytest.raises(StopTraining, match="3 times in a row .Could not read the label store"):
        cord(SimpleNamespace(step=3))


MANY = """
import json, random, sys, time
from rlhf_lib import andon
from rlhf_lib.errors import KitError
url, worker, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dice, done = random.Random(worker), 0
while done < count:
    run = dice.choice([None, "r", "other"])
    try:
        event = (andon.pull if dice.random() < 0.5 else andon.release)(f"{worker}/{done}", f"w{worker}", run, url)
    except KitError as error:
        if "nothing to release" not in str(error): raise
        continue
    print(json.dumps([event.kind, event.labeler, event.data["reason"]]), flush=True)  # acknowledged
    done += 1
    time.sleep(dice.random() * 0.05)
"""


def many_pulls_during_a_run(tmp_path, url, total, record_property, processes=8):
    """Train while `processes` others pull and release; then nothing may be lost, doubled or damaged."""
    from tests.runner import small_ppo

    store = LabelStore(url)
    before = len(andon.history(store))
    cfg, folder = small_ppo.config(updates=40), tmp_path / "run"
    folder.mkdir()
    shares = [total // processes + (n < total % processes) for n in range(processes)]
    workers = [
        subprocess.Popen([sys.executable, "-c", MANY, url, str(n), str(share)], stdout=subprocess.PIPE, text=True)
        for n, share in enumerate(shares)
    ]
    stops, step = 0, 0
    while step < 40:
        if all(worker.poll() is not None for worker in workers) and andon.state("r", url).pulled:
            andon.release("all have gone home", "pytest", "r", url)
        try:
            cord = andon.AndonCord("r", store)
        except KitError:
            time.sleep(0.01)
            continue
        slow = [lambda _: time.sleep(0.02)]
        step = train(folder, cfg, [*slow, cord]).step  # a damaged checkpoint would end in a KitError here
        stops += step < 40
    said = [tuple(json.loads(line)) for worker in workers for line in worker.communicate()[0].splitlines()]
    assert [worker.returncode for worker in workers] == [0] * processes
    kept = andon.history(store)[before:]
    ours = [(e.kind, e.labeler, e.data["reason"]) for e in kept if e.labeler != "pytest"]
    assert sorted(ours) == sorted(said) and len(said) == total
    assert [e.id for e in andon.standing(kept, "r").pulls] == fold_by_hand(kept, "r")

    (tmp_path / "whole").mkdir()
    train(tmp_path / "whole", cfg)
    assert rows_of(folder / "metrics.jsonl") == rows_of(tmp_path / "whole/metrics.jsonl")
    record_property("pulls_and_releases", total)
    record_property("stops_and_resumptions", stops)
    return stops


@BOTH
def test_ten_pulls_and_releases_during_a_run(tmp_path, url, record_property):
    many_pulls_during_a_run(tmp_path, url, 10, record_property, processes=4)


@pytest.mark.soak
@BOTH
def test_a_hundred_pulls_and_releases_from_eight_processes_during_a_run(tmp_path, url, record_property):
    assert many_pulls_during_a_run(tmp_path, url, 100, record_property) >= 1, "it was really stopped and gone on with"


def test_these_tests_write_nobodys_labels():
    assert os.environ["RLHF_LABELS_URL"].startswith("sqlite:////"), "tests write nobody's labels"
