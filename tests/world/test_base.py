"""Pretraining: resumes exactly, learns, and says clearly what is wrong with its input."""

import gzip
import json
from itertools import islice

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_lib import base, basecard
from rlhf_lib.corpora import pretraining, textfile
from rlhf_lib.errors import KitError

SMALL = base.Recipe(vocab_size=300, n_positions=64, width=16, layers=1, heads=2, block=32, micro_batch=4, batch=8)


def blocks():
    rng = np.random.default_rng(0)
    while True:
        yield pretraining.repeats_block(rng, 50, 32)


def run(folder, steps: int, fail_at: int | None = None):
    """Train up to `steps`; with `fail_at`, die there as a killed process would, after the last save."""
    folder.mkdir(exist_ok=True)
    trainer = base.Pretrainer(SMALL, folder, bf16=False)
    trainer.resume()

    def measure(model):
        if fail_at is not None and trainer.step >= fail_at:
            raise KeyboardInterrupt
        return {"weight": float(model.transformer.wte.weight.detach().sum())}

    base.pretrain(trainer, [("repeats", blocks(), SMALL.batch, steps)], measure, every=5)
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_killed_and_resumed_is_the_uninterrupted_run(tmp_path):
    whole = run(tmp_path / "whole", 20)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", 20, fail_at=15)
    assert run(tmp_path / "killed", 20) == whole
    assert [row["step"] for row in whole] == [5, 10, 15, 20]


def test_it_learns_and_repeats_are_predictable(tmp_path):
    rows = run(tmp_path, 60)
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5


def test_damaged_checkpoint_and_other_recipe_are_sentences(tmp_path):
    run(tmp_path, 5)
    other = base.Pretrainer(base.Recipe(**{**vars(SMALL), "lr": 1e-5}), tmp_path, bf16=False)
    with pytest.raises(KitError, match="another recipe"):
        other.resume()
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(KitError, match="damaged"):
        base.Pretrainer(SMALL, tmp_path, bf16=False).resume()


def test_repeats_repeat_and_few_words_stay_few():
    rng = np.random.default_rng(1)
    for _ in range(50):
        block = pretraining.repeats_block(rng, 3000, 120)
        periods = [p for p in range(6, 60) if (block[p:] == block[:-p]).all()]
        assert periods, block
    few = [len(set(pretraining.repeats_block(rng, 3000, 120, few=1.0).tolist())) for _ in range(50)]
    many = [len(set(pretraining.repeats_block(rng, 3000, 120).tolist())) for _ in range(50)]
    assert np.mean(few) < 0.8 * np.mean(many)


def test_mixed_text_holds_every_kind_and_quotes_about_as_often_as_said():
    texts = [pretraining.mixed_document(1, i) for i in range(2000)]
    summaries = [t.split(pretraining.TLDR) for t in texts if pretraining.TLDR in t]
    assert 0.45 < len(summaries) / len(texts) < 0.6
    quoted = [summary.strip().split(". ")[0].rstrip(".") in source for source, summary in summaries]
    assert 0.12 < np.mean(quoted) < 0.26


def test_packed_blocks_begin_with_a_document():
    encode = lambda text: [ord(c) for c in text]  # noqa: E731
    documents = ["abcdef", "ghij", "klmnopqrstuvwxyz"]
    found = list(islice(pretraining.packed_blocks(lambda i: documents[i % 3], encode, 0, 8), 4))
    assert all(len(block) == 8 for block in found)
    assert all(chr(block[0]) in "agk" for block in found)


def test_quote_probability_of_a_model_that_always_knows():
    """`quoting` reads 1 for a model that puts all mass on the right token, and about 1/vocabulary for a flat one."""
    tokenizer = base.wrap_tokenizer(pretraining.train_tokenizer(base.world_texts(1, 300), 600))

    class Oracle:
        def __init__(self, sure: float):
            self.sure = sure

        def __call__(self, ids):
            logits = torch.zeros(1, ids.shape[1], len(tokenizer))
            logits[0, torch.arange(ids.shape[1] - 1), ids[0, 1:]] = self.sure
            return type("Out", (), {"logits": logits})

    assert basecard.quoting(Oracle(50.0), tokenizer, 20)["quote_content"] == pytest.approx(1.0)
    assert basecard.quoting(Oracle(0.0), tokenizer, 20)["quote_content"] == pytest.approx(1 / len(tokenizer))


def test_content_spans_are_names_places_and_numbers():
    sentence = "Ada Lane was elected mayor of Dover on Monday with 214 votes."
    spans = [sentence[a:b] for a, b in basecard.content_spans(sentence, "election")]
    assert spans == ["mayor", "Dover", "Monday", "214"]


def test_base_from_prose_by_the_command_line(tmp_path, capsys, monkeypatch):
    corpus = tmp_path / "book.jsonl.gz"
    paragraphs = [f"The {w} walked to the old mill in the rain and saw a {w}." for w in ("cat", "dog", "owl")] * 40
    with gzip.open(corpus, "wt") as stream:
        stream.write(json.dumps({"text": "\n\n".join(paragraphs)}) + "\n")
    monkeypatch.setattr(base, "Recipe", lambda **given: base_recipe(**given))
    base_recipe = lambda **given: type(SMALL)(**{**vars(SMALL), **given})  # noqa: E731
    out = tmp_path / "out"
    arguments = ["--corpus", str(corpus), "--out", str(out), "--work", str(tmp_path / "work"), "--steps", "4"]
    assert base.main([*arguments, "--precision", "fp32"]) == 0
    assert AutoModelForCausalLM.from_pretrained(out).config.n_layer == 1
    assert AutoTokenizer.from_pretrained(out)("The cat.")["input_ids"]
    assert json.loads((out / "card.json").read_text())["perplexity"]["prose"] > 1
    assert base.main([*arguments, "--precision", "fp32"]) == 0  # finished before: nothing is trained again
    assert json.loads((out / "card.json").read_text())["steps"] == 4


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("missing.txt", None, "does not exist"),
        ("empty.txt", b"", "no paragraph"),
        ("latin.txt", "Fa\xe7ade of the old house in the town.".encode("latin-1"), "UTF-8"),
        ("rows.jsonl", b'{"text": "A fine day in the old town."}\n{"body": 1}\n', "line 2"),
        ("number.jsonl", b'{"text": 7}\n', "line 1"),
        ("cut.jsonl.gz", gzip.compress(b'{"text": "A fine day in the old town."}\n' * 50, mtime=0)[:-9], "readable"),
    ],
)
def test_bad_corpus_files_are_one_sentence(tmp_path, name, content, sentence):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KitError, match=sentence):
        textfile.read_paragraphs(path)


def test_split_keeps_paragraphs_apart_and_covers_all():
    paragraphs = [f"paragraph number {i} of the book" for i in range(500)]
    train, test = textfile.split_paragraphs(paragraphs)
    assert sorted(train + test) == sorted(paragraphs)
    assert not set(train) & set(test)
    assert 0.02 < len(test) / 500 < 0.10
