"""`make reproduce PROFILE=gpt2 MODEL=<folder> CORPUS=<folder>` on local folders in the hub's format, end to end.

A test-sized GPT-2 with GPT-2's own 50,257 tokens, and a few hundred rows a data set, made here.
"""

import gzip
import json
import os
import shutil
import subprocess

import pandas as pd
import pytest

from rlhf_lib import manifest, reproduce
from rlhf_lib.corpora import tinyworld

# a few of everything: what is tested is that the path is whole, not what is learned on it
FIELDS = (
    "reward__labels=48", "reward__batch=16", "reward__normalize_samples=16", "ppo__episodes=32", "ppo__batch=16",
    "ppo__micro_batch=16", "eval_prompts=16", "cnndm__sft__examples=32", "tldr__sft__examples=32",
    "text__query_length=64", "text__response_length=24", "text__truncate_after=0", "collect__refits=1",
    "collect__batches=2",
)  # fmt: skip

SAID = (".", "\n", " happy", " good", " love", " smile", " sad", " terrible", " cry", " red", " stone", " dark",
        " bright", " wooden", " he", " she", " the", " was", " and", " of", " came", " dollars", " people", " points",
        " won", " lost", " fire", " me", " go", " reward", " all", " asked")  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory, real):
    """A folder as `hf download gpt2` makes it, but of two narrow layers."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

    folder = tmp_path_factory.mktemp("hub") / "gpt2"
    torch.manual_seed(0)
    lm = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2))
    tokenizer = GPT2TokenizerFast.from_pretrained(real / "gpt2_bpe")
    likely = [tokenizer.encode(text)[0] for text in SAID]  # samples end in time, and labelers have a view of them
    with torch.no_grad():
        lm.transformer.ln_f.bias[0] = 8.0
        lm.transformer.wte.weight[likely, 0] = 0.9
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The three sets in the hub's columns, with the embedded world's texts in them."""
    root = tmp_path_factory.mktemp("corpus")
    for split, count in {"train": 300, "validation": 20, "test": 120}.items():
        articles = [tinyworld.article(1, i, split) for i in range(count)]
        news = [{"article": "(CNN)" + " ".join(d.text.split()), "highlights": d.reference} for d in articles]
        posts = [tinyworld.post(1, i, split) for i in range(count)]
        asked = [f"SUBREDDIT: r/x\n\nTITLE: y\n\nPOST: {d.text}\n\nTL;DR:" for d in posts]
        told = [{"prompt": q, "completion": f" {d.reference}"} for q, d in zip(asked, posts, strict=True)]
        for folder, rows in (("cnn_dailymail/3.0.0", news), ("tldr/data", told)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).to_parquet(root / folder / f"{split}-00000-of-00001.parquet")
    (root / "books").mkdir()
    with gzip.open(root / "books/train.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": tinyworld.story(1, i)}) + "\n" for i in range(600))
    return root


@pytest.mark.slow
def test_make_reproduce_on_local_folders_runs_every_notebook(model, corpus, tmp_path, root):
    env = os.environ | {"RLHF_RUNS": str(tmp_path / "runs"), "RLHF_LABELS_URL": f"sqlite:///{tmp_path}/labels.sqlite",
                        "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}  # fmt: skip
    words = ["make", "reproduce", "PROFILE=gpt2", f"MODEL={model}", f"CORPUS={corpus}", f"SET={' '.join(FIELDS)}"]
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    done = subprocess.run(words, cwd=root, env=env, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (run,) = (tmp_path / "runs").glob("*-gpt2")
    record = manifest.read_json(run / "manifest.json")
    assert record["status"] == "complete" and record["parameters"]["set"]["ppo__episodes"] == 32
    assert [row["notebook"] for row in record["notebooks"]] == [p.name for p in reproduce.select(root / "notebooks")]
    samples = pd.read_parquet(next((run / "samples").glob("sentiment_s1_48.parquet")))
    assert len(samples) == 64 and samples["query"].str.len().min() > 0
