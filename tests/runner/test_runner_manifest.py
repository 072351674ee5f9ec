"""The cache and the manifest: nothing is made twice, nothing half-made is ever seen."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from rlhf_lib import manifest
from rlhf_lib.errors import KitError


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


class Maker:
    """Writes a folder with one file and counts how often it was asked to."""

    def __init__(self):
        self.calls = 0

    def __call__(self, path):
        self.calls += 1
        path.mkdir()
        (path / "weights.bin").write_bytes(b"w" * 100)


def test_same_inputs_are_made_once_and_over_runs(runs, capsys):
    make, first, second = Maker(), manifest.run_folder(runs / "a"), manifest.run_folder(runs / "b")
    for run in (first, second):
        manifest.SAID.clear()  # as in another process
        path = manifest.cached(run, "models/policy", {"lr": 1e-3, "seed": 1}, make)
        assert path == run / "models/policy" and (path / "weights.bin").stat().st_size == 100
    assert make.calls == 1
    assert "not made again" in capsys.readouterr().out
    assert [row["reused"] for row in manifest.cache_rows(first) + manifest.cache_rows(second)] == [False, True]


def test_any_change_of_inputs_makes_it_again(runs, tmp_path):
    make, run, text = Maker(), manifest.run_folder(runs / "a"), tmp_path / "corpus.txt"
    text.write_text("one")
    inputs = [{"lr": 1}, {"lr": 2}, {"lr": 2, "seed": 0}, {"lr": 1, "corpus": text}]
    for row in inputs:
        manifest.cached(run, "models/policy", row, make)
    text.write_text("two")
    manifest.cached(run, "models/policy", inputs[-1], make)
    manifest.cached(run, "models/other", {"lr": 1}, make)
    manifest.cached(run, "models/policy", {"lr": 1}, make, rooms=("errors",))
    assert make.calls == 7
    manifest.cached(run, "models/policy", {"lr": 1}, make)  # back to what was made first
    assert make.calls == 7


def test_key_depends_on_content_and_not_on_order_place_or_type_of_container(runs, tmp_path):
    @dataclass
    class Config:
        lr: float
        sizes: tuple

    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "a.txt").write_text("same")

    def key(**inputs):
        return manifest.inputs_key("x", inputs)[0]

    assert key(a=1, b=[one]) == key(b=(two,), a=np.int64(1))
    assert key(config=Config(1e-3, (1, 2))) == key(config={"lr": 1e-3, "sizes": [1, 2]})
    (two / "a.txt").rename(two / "b.txt")
    assert key(b=[one]) != key(b=[two])
    assert key(b=str(one)) != key(b=one)
    with pytest.raises(KitError, match="'x' hold a value of type object"):
        key(b=object())
    with pytest.raises(KitError, match="does not exist"):
        key(b=tmp_path / "none")


def test_source_hash_follows_imports_and_not_comments(tmp_path, monkeypatch):
    package = tmp_path / "rlhf_lib"
    (package / "corpora").mkdir(parents=True)
    monkeypatch.setattr(manifest, "PACKAGE", package)
    (package / "ppo.py").write_text("def f():\n    from rlhf_lib.corpora import world\n    return world\n")
    (package / "corpora" / "world.py").write_text("X = 1\n")
    (package / "corpora" / "words.txt").write_text("mud\n")
    (package / "other.py").write_text("Y = 1\n")
    before = manifest.source_hash(["ppo"])
    (package / "other.py").write_text("Y = 2\n")
    (package / "corpora" / "world.py").write_text("# why\nX = 1  # a comment\n")
    assert manifest.source_hash(["ppo"]) == before
    (package / "corpora" / "words.txt").write_text("silt\n")
    with_words = manifest.source_hash(["ppo"])
    (package / "corpora" / "world.py").write_text("X = 2\n")
    assert len({before, with_words, manifest.source_hash(["ppo"])}) == 3
    with pytest.raises(KitError, match="no room 'nothing'"):
        manifest.source_hash(["nothing"])


def test_what_comes_from_the_cache_counts_by_its_key(runs):
    run = manifest.run_folder(runs / "a")
    policy = manifest.cached(run, "models/policy", {"lr": 1}, Maker())
    assert manifest.content_hash(policy) == f"{policy.resolve().parent.name}/policy"
    (policy / "weights.bin").write_bytes(b"v" * 100)  # nobody edits the cache; so the key alone counts
    assert manifest.content_hash(policy).endswith("/policy")


def test_a_truncated_or_lost_file_is_made_again(runs):
    make, run = Maker(), manifest.run_folder(runs / "a")
    path = manifest.cached(run, "models/policy", {}, make)
    with open(path / "weights.bin", "r+b") as file:
        file.truncate(50)
    path = manifest.cached(run, "models/policy", {}, make)
    assert make.calls == 2 and (path / "weights.bin").stat().st_size == 100
    (path / "weights.bin").unlink()
    manifest.cached(run, "models/policy", {}, make)
    assert make.calls == 3
    (path.resolve().parent / "meta.json").write_text('{"files": ')
    manifest.cached(run, "models/policy", {}, make)
    assert make.calls == 4


def test_a_maker_that_fails_or_writes_nothing_leaves_nothing(runs):
    run = manifest.run_folder(runs / "a")

    def fails(path):
        path.write_text("half")
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError):
        manifest.cached(run, "samples/x.csv", {}, fails)
    assert not (run / "samples/x.csv").exists()
    with pytest.raises(KitError, match="Nothing was written for 'samples/x.csv'"):
        manifest.cached(run, "samples/x.csv", {}, lambda path: None)
    path = manifest.cached(run, "samples/x.csv", {}, lambda path: path.write_text("whole"))
    assert path.read_text() == "whole"


def test_something_real_in_the_way_is_not_replaced(runs):
    run = manifest.run_folder(runs / "a")
    (run / "samples" / "mine.csv").write_text("mine")
    with pytest.raises(KitError, match="in its way"):
        manifest.cached(run, "samples/mine.csv", {}, lambda path: path.write_text("other"))
    assert (run / "samples" / "mine.csv").read_text() == "mine"


KILLED = """
import sys, time
from pathlib import Path
from rlhf_lib import manifest
def make(path):
    path.mkdir(exist_ok=True)
    done = len(list(path.iterdir()))
    print("from", done, flush=True)
    for step in range(done, 1000):
        (path / f"step{step:03d}").write_text("x")
        print(step, flush=True)
        if step == int(sys.argv[3]): sys.exit("enough")
        time.sleep(0.002)
manifest.cached(Path(sys.argv[1]), "models/m", {}, make, resumes=sys.argv[2] == "1")
"""


@pytest.mark.parametrize("resumes", [False, True])
def test_kill_in_the_middle(runs, resumes):
    run = manifest.run_folder(runs / "a")
    words = [sys.executable, "-c", KILLED, str(run), str(int(resumes)), "-1"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    while process.stdout.readline().strip() != "20":
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (run / "models/m").exists()
    assert not [path for path in (runs / "cache").iterdir() if path.is_dir() and not path.name.endswith(".partial")]
    seen = []

    def make(path):
        seen.append(len(list(path.iterdir())) if path.exists() else 0)
        path.mkdir(exist_ok=True)
        (path / "end").write_text("x")

    manifest.cached(run, "models/m", {}, make, resumes=resumes)
    assert (run / "models/m/end").exists()
    assert seen[0] >= 21 if resumes else seen == [0]


def test_two_processes_make_it_once(runs):
    run = manifest.run_folder(runs / "a")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom rlhf_lib import manifest\n"
        "def make(path):\n    print('made', flush=True); time.sleep(0.5); path.write_text('x')\n"
        f"manifest.cached(Path({str(run)!r}), 'models/m', {{}}, make)\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = "".join(process.communicate()[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said.count("made\n") == 1 and "not made again" in said


def test_write_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    manifest.write_json(path, {"x": np.float32(1), "at": tmp_path, "s": {2, 1}})
    assert json.loads(path.read_text()) == {"x": 1.0, "at": str(tmp_path), "s": [1, 2]}
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError):
        manifest.write_json(path, {})
    assert json.loads(path.read_text())["x"] == 1.0 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", '{"a": ', "[1]", "\x00"])
def test_damaged_json_is_one_sentence(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(KitError, match=r"a\.json.*make it again\.$"):
        manifest.read_json(path)


def test_model_folders(tmp_path):
    with pytest.raises(KitError, match=r"no config\.json"):
        manifest.check_model_folder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(KitError, match="no weights"):
        manifest.check_model_folder(tmp_path)
    weights = tmp_path / "model.safetensors"
    save_file({"w": np.zeros(1000, np.float32)}, weights)
    manifest.check_model_folder(tmp_path)
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(KitError, match=r"model\.safetensors is damaged or cut short"):
        manifest.check_model_folder(tmp_path)


def test_folders_of_a_run(runs):
    folder = manifest.run_folder("", "smoke")
    assert folder == Path(runs).resolve() / "notebook-smoke"
    assert sorted(path.name for path in folder.iterdir()) == sorted(manifest.RUN_FOLDERS)
    started = time.monotonic()
    assert manifest.versions()["python"] == sys.version.split()[0] and "numpy" in manifest.versions()
    assert time.monotonic() - started < 5
