"""The original's label files: padding, repeats and rows of equal samples taken off; fitted by the reward model."""

import gzip
import json
import random

import pytest

from rlhf_lib.errors import KitError
from rlhf_lib.labels.importing import PAD_ID
from rlhf_lib.labels.original import SAMPLES, read_original, speaks_gpt2


def padded(tokens, length):
    return [*tokens, *[PAD_ID] * (length - len(tokens))]


def row(rng, queries=40):
    """A label as the files hold it: query of 64, samples of 24 ids; the sample of small ids is the best."""
    at, best = rng.randrange(queries), rng.randrange(4)
    query = [1000 + at, 11, 2000 + at, 13]
    samples = [[rng.randrange(20, 30) + 5000 * (k != best) for _ in range(17)] for k in range(4)]
    return {"query": padded(query, 64), "best": best} | {
        n: padded(s, 24) for n, s in zip(SAMPLES, samples, strict=True)
    }


@pytest.fixture(scope="module")
def rows():
    rng = random.Random(0)
    return [row(rng) for _ in range(320)]


def write(path, rows):
    path.write_text(json.dumps(rows))
    return path


def test_reads_a_list_and_json_lines_and_takes_padding_off(tmp_path, rows):
    found, counts = read_original(write(tmp_path / "offline_5k.json", rows))
    assert counts == {"rows": 320, "duplicate": 0, "all_equal": 0}
    assert found[3] == {"query": [t for t in rows[3]["query"] if t != PAD_ID], "best": rows[3]["best"],
                        "responses": [[t for t in rows[3][n] if t != PAD_ID] for n in SAMPLES]}  # fmt: skip
    with gzip.open(tmp_path / "copy.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(r) + "\n" for r in rows)
    assert read_original(tmp_path / "copy.jsonl.gz")[0] == found


def test_repeats_and_equal_samples_leave_and_are_counted(tmp_path, rows):
    equal = rows[0] | {name: rows[0]["sample0"] for name in SAMPLES}
    other_answer = rows[1] | {"best": (rows[1]["best"] + 1) % 4}  # another labeler's view is no repeat
    found, counts = read_original(write(tmp_path / "x.json", [*rows, rows[5], rows[5], equal, other_answer]))
    assert counts == {"rows": 324, "duplicate": 2, "all_equal": 1}
    assert len(found) == 321


def test_text_for_a_model_of_another_vocabulary(tmp_path, rows):
    found, _ = read_original(write(tmp_path / "x.json", rows[:2]), decode=lambda ids: " ".join(map(str, ids)))
    assert found[0]["query"] == " ".join(str(t) for t in rows[0]["query"] if t != PAD_ID)
    assert all(isinstance(text, str) for text in found[1]["responses"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"best": 4}, "row 2, field 'best' must be a whole number from 0 to 3"),
        ({"best": None}, "row 2, field 'best'"),
        ({"sample2": [50258]}, "row 2, field 'sample2' must hold GPT-2 token ids or 50259"),
        ({"sample1": None}, "row 2, field 'sample1' must be a list of token ids"),
        ({"query": [PAD_ID] * 64}, "row 2, field 'query' holds nothing but padding"),
    ],
)
def test_a_bad_row_is_named(tmp_path, rows, change, said):
    with pytest.raises(KitError, match=said):
        read_original(write(tmp_path / "x.json", [rows[0], rows[1] | change]))


def test_cut_off_missing_and_useless_files(tmp_path, rows):
    file = write(tmp_path / "x.json", rows[:3])
    file.write_text(file.read_text()[:-100])
    with pytest.raises(KitError, match=r"x\.json, row 3 is not JSON"):
        read_original(file)
    with pytest.raises(KitError, match="Cannot read"):
        read_original(tmp_path / "none.json")
    equal = rows[0] | {name: rows[0]["sample0"] for name in SAMPLES}
    with pytest.raises(KitError, match="no label that can be used"):
        read_original(write(tmp_path / "y.json", [equal]))


def test_the_hubs_copy_without_a_network_is_one_sentence(monkeypatch):
    import huggingface_hub

    def unreachable(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(KitError, match=r"sentiment/offline_5k\.json.*could not be had.*download the file"):
        read_original("hub:sentiment/offline_5k.json")


def test_the_hubs_copy_is_read_like_the_file(tmp_path, rows, monkeypatch):
    import huggingface_hub

    file = write(tmp_path / "offline_5k.json", rows)
    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a, **k: asked.append((a, k)) or str(file))
    assert read_original("hub:sentiment/offline_5k.json") == read_original(file)
    assert asked == [(("vwxyzjn/lm-human-preferences", "sentiment/offline_5k.json"), {"repo_type": "dataset"})]


def test_gpt2s_vocabulary_is_told_from_others(real):
    from transformers import GPT2TokenizerFast

    tokenizer = GPT2TokenizerFast.from_pretrained(real / "gpt2_bpe")
    assert speaks_gpt2(tokenizer)
    assert tokenizer.decode([383, 3290, 13]) == " The dog."


def test_another_vocabulary_is_not_gpt2s(root):
    from transformers import AutoTokenizer

    assert not speaks_gpt2(AutoTokenizer.from_pretrained(root / "data/base"))


def test_the_reward_model_is_fitted_to_the_files_rows(tmp_path, rows):
    """GPT-2's 50,257 entries in a test-sized body; split by query, it learns the rule of the labels."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from rlhf_lib.picks import encode_labels, split_by_query
    from rlhf_lib.policy import Policy, prepare
    from rlhf_lib.profiles import RewardConfig, TextConfig
    from rlhf_lib.reward import fit_reward
    from rlhf_lib.tasks import Queries, Task

    class Ids:  # what a task needs of a tokenizer when the labels are token ids
        pad_token_id, eos_token_id = 50256, 50256

        def encode(self, text, add_special_tokens=False):
            return {".": [13]}[text]

    text = TextConfig(query_length=12, response_length=24, temperature=0.7, truncate_after=16, truncate_token=".")
    task = Task("sentiment", text, Ids())
    found, _ = read_original(write(tmp_path / "offline_5k.json", rows))
    train, held = split_by_query(encode_labels(found, task)[0], 0.2, seed=1)
    keys = [{tuple(q[m].tolist()) for q, m in zip(d.query_ids, d.query_mask, strict=True)} for d in (train, held)]
    assert not keys[0] & keys[1] and len(keys[1]) == 8
    torch.manual_seed(0)
    lm = prepare(GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, n_positions=64, initializer_range=0.2)))
    ids = torch.randint(20, 5100, (16, 12), generator=torch.Generator().manual_seed(0))
    queries = Queries(ids, torch.ones_like(ids).bool(), list(range(16)))
    cfg = RewardConfig(labels=5_000, batch=8, lr=2e-2, normalize_samples=16, heldout=0.2)
    model = fit_reward(Policy(lm), found, queries, task, cfg)
    assert model.report["train"] + model.report["heldout"] == 320
    assert model.report["heldout_accuracy"] > 0.5  # chance is 0.25; three standard errors of 60 rows are 0.17
