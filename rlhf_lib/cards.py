"""Cards for what the kit makes, ready to be pushed to the Hugging Face hub: README.md with the hub's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import DatasetCardData, ModelCardData

from rlhf_lib.corpora import hub
from rlhf_lib.manifest import write_text
from rlhf_lib.profiles import Profile

KINDS = {  # kind of model: (title, pipeline tag, tags, section of the profile)
    "supervised": ("A language model fine-tuned on references", "text-generation", ["sft"], "sft"),
    "reward": ("A reward model fitted to four-way picks", "text-classification", ["reward-model"], "reward"),
    "ppo": ("A language model fine-tuned from human preferences", "text-generation", ["ppo", "rlhf"], "ppo"),
}
HUB_NAMES = {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"}  # whose weights are MIT-licensed

USE_LM = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
# responses were trained at this temperature and fixed length; end-of-text means nothing to this model
ids = tokenizer({prompt!r}, return_tensors="pt")
how = dict(do_sample=True, temperature={temperature}, top_k=0, max_new_tokens={length}, eos_token_id=None)
out = model.generate(**ids, **how)
print(tokenizer.decode(out[0]))"""

USE_REWARD = """from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForSequenceClassification.from_pretrained("{name}")
ids = tokenizer("query and response, without the prompt's own words", return_tensors="pt")
score = model(**ids).logits[0, 0] + getattr(model.config, "reward_bias", 0.0)
# mean 0 and standard deviation 1 over samples of the reference model"""


PENALTY_NOTE = """The score of a response that does not end in time is replaced by the task's penalty outside this
model. `reward_bias` is 0 but for models whose last norm has no bias (RMSNorm)."""


def write_model_card(
    folder: Path, kind: str, task: str, profile: Profile, corpus: str | Path, facts: Mapping[str, object]
) -> Path:
    """Write folder/README.md for a model of `kind` (supervised, reward, ppo). facts: measured numbers to state."""
    title, pipeline, tags, section = KINDS[kind]
    what = "books" if task in ("sentiment", "descriptiveness") else task
    data = ModelCardData(
        language="en", library_name="transformers", pipeline_tag=pipeline, tags=["rlhf-notebooks", task, *tags],
        base_model=profile.model if profile.model in HUB_NAMES else None,
        license="mit" if profile.model in HUB_NAMES else "other",
        datasets=[hub.SETS[what].name] if str(corpus) == hub.HUB else None,
    )  # fmt: skip
    config = profile[task]
    text = config.text
    use = (USE_REWARD if kind == "reward" else USE_LM).format(
        name=folder.name, prompt=text.prefix + "..." + text.suffix, temperature=text.temperature,
        length=text.response_length,
    )  # fmt: skip
    body = [
        f"# {title}: {task}",
        f"Made with the kit's profile `{profile.name}` from `{Path(profile.model).name}` on "
        f"{_corpus(corpus)}, after \"Fine-tuning language models from human preferences\" (Ziegler et al. 2019). "
        "What it learned is what its labelers preferred: read samples before you rely on it, and do not take a summary "
        "for true because it reads well.",
        "## Use", f"```python\n{use}\n```",
        "## Measured in this training", _table(facts),
        "## Settings", _table(asdict(getattr(config, section))),
        "## Texts", _table(asdict(text)),
    ]  # fmt: skip
    if kind == "reward":
        body.insert(4, PENALTY_NOTE)
    write_text(folder / "README.md", f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n")
    return folder / "README.md"


def write_data_card(folder: Path, name: str, what: str, rows: int, simulated: bool, columns: Mapping[str, str]) -> Path:
    """Write folder/README.md for labels or samples that the kit exported.

    name: title; what: a sentence on what a row is; simulated: programs gave the labels; columns: name -> meaning.
    """
    size = next(label for limit, label in ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e9, "100K<n<1M"))
                if rows < limit)  # fmt: skip
    data = DatasetCardData(
        language="en", license="other", size_categories=size, pretty_name=name,
        annotations_creators="machine-generated" if simulated else "crowdsourced",
        tags=["rlhf-notebooks", "human-feedback", *(["simulated-labelers"] if simulated else [])],
    )  # fmt: skip
    who = "The labelers are simulated: programs, not people." if simulated else "The labelers are people."
    said = f"{what} {rows:,} rows. {who} Texts belong to those who wrote them."
    body = [f"# {name}", said, "## Columns", _table(columns)]
    write_text(folder / "README.md", f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n")
    return folder / "README.md"


def _corpus(corpus: str | Path) -> str:
    if not corpus:
        return "the kit's embedded world of generated text"
    return "data sets of the Hugging Face hub" if str(corpus) == hub.HUB else f"the corpus `{Path(corpus).name}`"


def _table(values: Mapping[str, object]) -> str:
    """Names and values as a Markdown table."""
    lines = (f"| {name} | {_shown(value)} |" for name, value in values.items())
    return "\n".join(["| | |", "| --- | --- |", *lines])


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"`{value!r}`" if isinstance(value, str) else str(value)
