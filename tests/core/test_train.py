"""The command line of the trainings, what it refuses, its cards and trackers; activations computed again; memory."""

import json
import os
import shutil
from pathlib import Path

import datasets
import pytest
import torch
from core_models import VOCAB, tiny_lm, tiny_tokenizer
from huggingface_hub import metadata_load
from transformers import AutoModelForSequenceClassification, GenerationConfig
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

from rlhf_lib import __main__ as cli
from rlhf_lib import cards, train
from rlhf_lib.errors import KitError
from rlhf_lib.memory import checkpoint_activations, enough_memory
from rlhf_lib.policy import Policy
from rlhf_lib.profiles import SFTConfig, get_profile
from rlhf_lib.reward import RewardModel
from rlhf_lib.sft import fit_sft


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return Policy(tiny_lm()).save(tmp_path_factory.mktemp("models") / "model", tiny_tokenizer())


SHORT = ["--profile", "smoke", "-p", "text__query_length=40", "-p", "text__response_length=8", "-p",
         "text__truncate_after=4", "-p", "text__prefix=''", "-p", "text__suffix=':'"]  # fmt: skip
FEW = ["-p", "sft__examples=16", "-p", "sft__batch=8", "-p", "reward__normalize_samples=8", "-p", "reward__batch=4"]


def said(capsys, *words):
    assert cli.main(["train", *words]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    return message


def test_what_is_missing_or_wrong_is_one_sentence(folder, tmp_path, capsys, monkeypatch):
    common = ["--task", "tldr", "--model", str(folder), "--out", str(tmp_path), *SHORT]
    assert "needs a reward model" in said(capsys, "ppo", *common)
    assert "no reward model" in said(capsys, "ppo", *common, "--reward", str(tmp_path / "none"))
    assert "needs labels" in said(capsys, "reward", *common)
    assert "Cannot read" in said(capsys, "reward", *common, "--labels", str(tmp_path / "none.json"))
    assert "There is no corpus" in said(capsys, "supervised", *common, "--corpus", str(tmp_path / "none"))
    assert "There is no model folder" in said(capsys, "supervised", *common, "--model", str(tmp_path / "none"))
    assert "has no field" in said(capsys, "supervised", *common, "-p", "tldr__sft__speed=3")
    style = ["--task", "sentiment", "--model", str(folder), "--out", str(tmp_path), *SHORT]
    assert "does not fine-tune sentiment first" in said(capsys, "supervised", *style)


def no_network(model, folder, monkeypatch):
    monkeypatch.setattr("rlhf_lib.network._has_address", lambda: False)
    return ["--task", "cnndm", "--corpus", "hub"], "hub cannot be reached for 'abisee/cnn_dailymail' (no network?)"


def no_network_for_the_model(model, folder, monkeypatch):
    monkeypatch.setattr("rlhf_lib.network._has_address", lambda: False)
    return ["--task", "tldr", "--model", "gpt2"], "'gpt2' could not be had from the Hugging Face hub"


def gated(model, folder, monkeypatch):
    def refuse(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'x' is a gated dataset on the Hub.")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    return ["--task", "tldr", "--corpus", "hub"], "'trl-lib/tldr' is gone from the hub, or gated"


def memory_that_ends_while_loading(model, folder, monkeypatch):
    def no_room(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3000000000 bytes")

    monkeypatch.setattr("rlhf_lib.policy.AutoModelForCausalLM.from_pretrained", no_room)
    return ["--task", "tldr"], "not enough memory to open the model"


def missing(model, folder, monkeypatch):
    (folder / "books").mkdir()
    return ["--task", "tldr", "--corpus", str(folder)], "has no subfolder 'tldr'"


def wrong_column(model, folder, monkeypatch):
    (folder / "tldr").mkdir()
    (folder / "tldr/train.jsonl").write_text('{"body": "x", "tldr": "y"}\n')
    return ["--task", "tldr", "--corpus", str(folder)], "have the columns body, tldr"


def another_architecture(model, folder, monkeypatch):
    shutil.copytree(model, folder / "mixed")
    tiny_lm("llama").save_pretrained(folder / "other")
    shutil.copy(folder / "other/model.safetensors", folder / "mixed/model.safetensors")
    return ["--task", "tldr", "--model", str(folder / "mixed")], "do not fit its config.json"


def a_checkpoint_of_another_architecture(model, folder, monkeypatch):
    Policy(tiny_lm(layers=1)).save(folder / "one", tiny_tokenizer())
    words = ["supervised", "--task", "tldr", "--out", str(folder / "out"), *SHORT, *FEW, "--model", str(folder / "one")]
    assert cli.main(["train", *words]) == 0
    return ["--task", "tldr", "--out", str(folder / "out")], "The checkpoint holds another model"


def a_model_with_too_few_positions(model, folder, monkeypatch):
    return ["--task", "tldr", "-p", "text__query_length=80"], "but the model has 64; shorten query_length"


def no_memory_for_the_model(model, folder, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Policy, "to", full)
    return ["--task", "tldr"], "not enough memory for supervised fine-tuning; lower tldr.sft.micro_batch"


def no_memory(model, folder, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(train, "fit_sft", full)
    return ["--task", "tldr"], "not enough memory for supervised fine-tuning; lower tldr.sft.micro_batch (now 32)"


BAD = (no_network, no_network_for_the_model, gated, missing, wrong_column, another_architecture,
       a_checkpoint_of_another_architecture, a_model_with_too_few_positions, no_memory_for_the_model,
       memory_that_ends_while_loading,
       no_memory)  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
def test_each_bad_input_ends_in_one_clear_sentence(bad, folder, tmp_path, capsys, monkeypatch):
    words, told = bad(folder, tmp_path, monkeypatch)
    capsys.readouterr()
    disable_progress_bar()
    common = ["train", "supervised", "--model", str(folder), "--out", str(tmp_path / "new"), *SHORT, *FEW]
    assert cli.main([*common, *words]) == 2
    enable_progress_bar()
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert told in sentence and sentence[0].isupper() | (sentence[0] == "'") and sentence.endswith((".", ")."))


def test_a_reward_model_of_another_vocabulary_is_one_sentence(folder, tmp_path, capsys):
    lm, others = tiny_lm("llama", vocab=32), tiny_tokenizer()
    RewardModel(lm.base_model).save(tmp_path / "foreign", others, lm.config)
    RewardModel(tiny_lm().base_model).save(tmp_path / "bare", others, tiny_lm().config)
    tokenizer = json.loads((tmp_path / "foreign/tokenizer.json").read_text())
    words = list(tokenizer["model"]["vocab"])
    tokenizer["model"]["vocab"] = {word: k for k, word in enumerate(words[:1] + words[:0:-1][-31:])}
    (tmp_path / "foreign/tokenizer.json").write_text(json.dumps(tokenizer))
    for file in (tmp_path / "bare").glob("*token*"):
        file.unlink()
    common = ["--task", "tldr", "--model", str(folder), "--out", str(tmp_path / "out"), *SHORT]
    for name in ("foreign", "bare"):
        sentence = said(capsys, "ppo", *common, "--reward", str(tmp_path / name))
        assert f"{name}' has no tokenizer, or another vocabulary than '{folder}'; give one" in sentence


def test_a_reward_models_report_counts_what_the_reader_of_the_labels_left_out(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "speaks_gpt2", lambda tokenizer: True)
    rows = [{"query": [1 + i, 28], "best": i % 4} | {f"sample{k}": [2 + k, 3, 28] for k in range(4)} for i in range(8)]
    equal = rows[0] | {f"sample{k}": [2, 28] for k in range(4)}
    (tmp_path / "offline_5k.json").write_text(json.dumps([*rows, rows[0], rows[1], equal]))
    words = ["--task", "tldr", "--model", str(folder), "--out", str(tmp_path), *SHORT, *FEW]
    assert cli.main(["train", "reward", *words, "--labels", str(tmp_path / "offline_5k.json")]) == 0
    report = json.loads((tmp_path / "reward/report.json").read_text())
    assert report["dropped"] == {"duplicate": 2, "all_equal": 1} and report["train"] + report["heldout"] == 8


def test_a_tokenizer_without_a_pad_serves(folder, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tiny_lm().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    common = ["--task", "tldr", "--model", str(tmp_path / "model"), *SHORT, *FEW, "--out"]
    labels = [{"query": f"q{i}.", "best": i % 4} | {f"sample{k}": "abcd"[k:] + "." for k in range(4)} for i in range(8)]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels))
    assert cli.main(["train", "supervised", *common, str(tmp_path / "sft")]) == 0
    assert cli.main(["train", "reward", *common, str(tmp_path / "rm"), "--labels", str(tmp_path / "labels.jsonl")]) == 0
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm/reward").config.pad_token_id == 0


def test_ways_of_distributing_that_the_kit_has_not_are_refused(monkeypatch):
    for kind in ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP"):
        train.check_kind(train.DistributedType(kind))
    for kind in ("DEEPSPEED", "MEGATRON_LM"):
        with pytest.raises(KitError, match=f"configured for {kind}, and the kit's trainings know DDP and FSDP"):
            train.check_kind(train.DistributedType(kind))
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    assert not train.fsdp_wanted()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert train.fsdp_wanted() and os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    with pytest.raises(KitError, match="fsdp_offload_params: false"):
        train.fsdp_wanted()


@pytest.mark.filterwarnings("ignore:`log_with=tensorboard`")
def test_a_tracker_that_is_not_installed_is_one_sentence(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
    words = ["supervised", "--task", "tldr", "--model", str(folder), "--out", str(tmp_path), *SHORT]
    assert "tensorboard is not installed" in said(capsys, *words, "--tracker", "tensorboard")


def test_trackers_are_off_and_get_every_update_when_asked(folder, tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(train.Accelerator, "log", lambda self, values, step=None: logged.append((step, dict(values))))
    monkeypatch.setattr(train.Accelerator, "init_trackers", lambda self, name: logged.append(name))
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: ["tensorboard"])
    monkeypatch.setattr("accelerate.accelerator.filter_trackers", lambda log_with, _: [log_with] if log_with else [])
    words = ["supervised", "--task", "tldr", "--model", str(folder), *SHORT, "-p", "tldr__sft__examples=16",
             "-p", "tldr__sft__batch=8", "--out"]  # fmt: skip
    train.main([*words, str(tmp_path / "off")])
    assert logged == []
    train.main([*words, str(tmp_path / "on"), "--tracker", "tensorboard"])
    rows = [json.loads(line) for line in (tmp_path / "on/metrics.jsonl").read_text().splitlines()]
    assert logged[0] == "rlhf-supervised"
    assert logged[1:] == [(row.pop("step"), row) for row in rows] and len(rows) == 2


# ---- cards ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["supervised", "reward", "ppo"])
def test_model_cards_have_the_hubs_metadata_and_the_numbers(tmp_path, kind):
    path = cards.write_model_card(tmp_path, kind, "tldr", get_profile("gpt2"), "hub", {"objective/kl": 5.4321})
    data = metadata_load(path)
    assert data["library_name"] == "transformers" and data["base_model"] == "gpt2" and data["license"] == "mit"
    assert data["datasets"] == ["trl-lib/tldr"] and "tldr" in data["tags"]
    assert data["pipeline_tag"] == ("text-classification" if kind == "reward" else "text-generation")
    text = path.read_text()
    assert "| objective/kl | 5.432 |" in text and "| lr | " in text and "| temperature | 0.7 |" in text
    compile(text.split("```python\n")[1].split("```")[0], "card", "exec")
    own = cards.write_model_card(tmp_path, kind, "tldr", get_profile("tiny"), "", {})
    assert "base_model" not in metadata_load(own) and metadata_load(own)["license"] == "other"


def test_data_cards_call_simulated_labelers_simulated(tmp_path):
    for simulated in (True, False):
        path = cards.write_data_card(tmp_path, "Labels", "Four-way picks.", 5000, simulated, {"best": "0 to 3"})
        data = metadata_load(path)
        assert data["size_categories"] == "1K<n<10K"
        assert ("simulated" in path.read_text()) == simulated == ("simulated-labelers" in data["tags"])


# ---- activations and memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_activations_computed_again_change_no_gradient_and_no_sample(kind):
    ids = torch.randint(0, VOCAB, (4, 9), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids).bool()
    mask[1, :3] = False
    plain, again = Policy(tiny_lm(kind)), Policy(checkpoint_activations(tiny_lm(kind)))
    passes = []
    layers = again.lm.transformer.h if kind == "gpt2" else again.lm.model.layers
    layers[0].mlp.register_forward_pre_hook(lambda *_: passes.append(1))
    found = []
    for policy in (plain, again):
        drawn = policy.sample(ids, mask, 6, 0.7, torch.Generator().manual_seed(1))
        passes.clear()
        policy(ids, mask, drawn.responses, 0.7)[0].sum().backward()
        found.append((drawn.responses, [p.grad for p in policy.lm.parameters() if p.grad is not None]))
    assert len(passes) == 2  # once forward, once again on the way back
    assert torch.equal(found[0][0], found[1][0])
    for a, b in zip(found[0][1], found[1][1], strict=True):  # GPT-2's plain pass is ours, the other transformers'
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_out_of_memory_is_a_sentence_that_names_the_setting():
    cpu = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
    for error in (torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), cpu):
        with pytest.raises(KitError, match=r"not enough memory for PPO; lower ppo\.micro_batch"), \
                enough_memory("PPO", "ppo.micro_batch (now 64)"):  # fmt: skip
            raise error
    with pytest.raises(RuntimeError, match="shape"), enough_memory("PPO", "x"):
        raise RuntimeError("shape mismatch")
    with pytest.raises(KitError, match="not enough memory"), enough_memory("PPO", "x"):
        torch.empty(2**60)


# ---- nothing of ours in GenerationConfig ----------------------------------------------------------------------


def test_the_generation_config_is_left_as_it_was(tmp_path):
    lm = tiny_lm()
    lm.generation_config = GenerationConfig(max_new_tokens=7, temperature=0.3, do_sample=True, eos_token_id=5, top_k=11)
    before = lm.generation_config.to_dict()
    policy = Policy(lm)
    ids = torch.randint(0, VOCAB, (2, 9))
    policy.sample(ids, torch.ones_like(ids).bool(), 8, 0.7, torch.Generator())
    assert policy.lm.generation_config.to_dict() == before
    saved = Policy(policy.lm).save(tmp_path / "m", tiny_tokenizer())
    kept = GenerationConfig.from_pretrained(saved).to_dict()
    assert all(kept[k] == before[k] for k in ("max_new_tokens", "temperature", "do_sample", "eos_token_id", "top_k"))
    source = Path(train.__file__).parent
    assert not [path.name for path in source.rglob("*.py") if "generation_config" in path.read_text()]


def test_dropout_is_the_same_when_activations_are_computed_again():
    pairs = [([1 + i % 9, 5], [10 + i % 9, 11 + i % 9, 28]) for i in range(16)]
    cfg = SFTConfig(examples=16, batch=8, lr=3e-3)
    plain, again = (fit_sft(lm, pairs, cfg) for lm in (tiny_lm(), checkpoint_activations(tiny_lm())))
    for a, b in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
