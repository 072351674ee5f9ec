"""What the base model can do, measured before anything is built on it."""

import json
import math
import random
import re
import shutil
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean as mean

import torch

from rlhf_lib import collect
from rlhf_lib.analysis.novelty import novel_units
from rlhf_lib.analysis.text import words
from rlhf_lib.corpora import pretraining, streams, tinyworld, tinyworld_check
from rlhf_lib.corpora import tinyworld_grammar as grammar
from rlhf_lib.policy import Policy
from rlhf_lib.profiles import get_profile
from rlhf_lib.tasks import Task, build_queries


def content_spans(sentence: str, kind: str) -> list[tuple[int, int]]:
    """Character spans of what only the context tells (names, places, numbers ...) in a sentence of a kind of news.

    Only past the third word: a sentence must have been started before it can be said to be quoted.
    """
    started = [m.end() for m in re.finditer(r"\S+", sentence)]
    if len(started) < 4:
        return []
    for template in tinyworld_check.templates_of(kind):
        found = grammar.regex(template).fullmatch(sentence)
        if found is not None:
            return [found.span(slot) for slot in found.groupdict() if found.start(slot) > started[2]]
    return []


@lru_cache(maxsize=4)
def quote_cases(count: int, seed: int = 90) -> tuple[tuple[str, str, tuple[tuple[int, int], ...]], ...]:
    """``(prompt, sentence, content spans)``: held-out documents with one of their own sentences after TL;DR."""
    rng, cases, index = random.Random(seed), [], 0
    while len(cases) < count:
        task = ("cnndm", "tldr")[index % 2]
        document = (tinyworld.article if task == "cnndm" else tinyworld.post)(seed, index, "test")
        index += 1
        sentence = rng.choice(grammar.sentences_of(document.text))
        spans = content_spans(sentence, document.facts["kind"])
        if spans:
            cases.append((pretraining.PREFIX[task] + document.text + pretraining.TLDR, sentence, tuple(spans)))
    return tuple(cases)


@torch.no_grad()
def quoting(model, tokenizer, count: int = 200) -> dict[str, float]:
    """Mean probability of the right token in a sentence of the context that has been started.

    ``quote_content`` over content tokens alone (the measure that counts), ``quote_all`` over all tokens
    past the third word: template words are predictable anyway and hide what is missing.
    """
    content, everything = [], []
    for prompt, sentence, spans in quote_cases(count):
        text = f"{prompt} {sentence}"
        encoded = tokenizer(text, return_offsets_mapping=True)
        offset = len(prompt) + 1
        third = [m.end() for m in re.finditer(r"\S+", sentence)][2] + offset
        ids = torch.tensor([encoded["input_ids"]])  # [1, T]
        probs = model(ids).logits[0, :-1].float().softmax(-1)  # [T-1, V]
        right = probs.gather(1, ids[0, 1:, None]).squeeze(1)  # [T-1]
        for token, (start, end) in enumerate(encoded["offset_mapping"][1:]):
            if start < third or end <= offset:
                continue
            everything.append(right[token].item())
            if any(start < b + offset and end > a + offset for a, b in spans):
                content.append(right[token].item())
    return {"quote_content": sum(content) / len(content), "quote_all": sum(everything) / len(everything)}


@torch.no_grad()
def nats_per_token(model, tokenizer, texts: list[str], limit: int = 192) -> float:
    """Mean negative log-likelihood of the texts' tokens (each text alone, cut at ``limit`` tokens)."""
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"][:limit]])
        if ids.shape[1] > 1:
            total += model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
            count += ids.shape[1] - 1
    return total / count


@dataclass(frozen=True)
class ZeroShot:
    """What the base writes after "TL;DR:", on held-out documents of one task."""

    novelty: float  # share of sentences that are not in the source
    truth: float  # share of summaries that say something, and nothing untrue
    checkable: float  # share of summaries that say anything that can be checked
    penalised: float  # share without a newline in time
    length: float  # tokens to the cut, mean


def zero_shot(model, tokenizer, task_name: str, count: int, seed: int = 92) -> ZeroShot:
    """Summaries by the base itself under the tiny profile's prompts, read by the world's fact checker."""
    documents = streams.summary_documents(task_name, "test", seed, count)
    task = Task(task_name, get_profile("tiny")[task_name].text, tokenizer)
    queries = build_queries([d.text + "\n" for d in documents], task)
    rows = collect.sample_texts(Policy(model), queries, task, seed, only_passing=True)
    summaries = [row["response_truncated"] for row in rows]
    verdicts = [tinyworld_check.check(s, documents[i].facts) for s, i in zip(summaries, queries.source, strict=True)]
    counts = [
        novel_units(words(documents[i].text), summary) for summary, i in zip(summaries, queries.source, strict=True)
    ]
    novel, sentences = (sum(int(count[side][-1]) for count in counts) for side in (0, 1))
    raw = collect.sample_texts(Policy(model), queries, task, seed + 1)
    return ZeroShot(
        novelty=novel / sentences, truth=mean(v.accurate for v in verdicts),
        checkable=mean(v.checkable for v in verdicts),
        penalised=mean(row["penalised"] for row in raw), length=mean(row["length"] for row in rows),
    )  # fmt: skip


def style_samples(model, tokenizer, texts, count: int, seed: int = 93) -> dict[str, float]:
    """Entropy (nats a response), share penalised and share of grammatical sentences of raw style samples."""
    task = Task("sentiment", get_profile("tiny")["sentiment"].text, tokenizer)
    rows = collect.sample_texts(Policy(model), build_queries(texts, task, count), task, seed)
    return {
        "sequence_entropy": mean(row["entropy"] for row in rows),
        "penalised": mean(row["penalised"] for row in rows),
        "grammatical": tinyworld_check.grammatical_share([row["response_truncated"] for row in rows]),
    }


class WorldProbe:
    """Measures of a base model of the embedded world."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.texts = {
            "story": [tinyworld.story(91, i, "test") for i in range(200)],
            "article": [tinyworld.article(91, i, "test").text for i in range(200)],
            "post": [tinyworld.post(91, i, "test").text for i in range(200)],
        }

    def quick(self, model) -> dict[str, float]:
        """For the learning curve: nats a token per kind of text, and quoting."""
        model.eval()
        curve = {f"nats_{kind}": nats_per_token(model, self.tokenizer, some[:20]) for kind, some in self.texts.items()}
        return curve | quoting(model, self.tokenizer, 60)

    def full(self, model, count: int = 512) -> dict:
        """For the card."""
        model.eval()
        nats = {kind: nats_per_token(model, self.tokenizer, texts) for kind, texts in self.texts.items()}
        return {
            "perplexity": {kind: math.exp(value) for kind, value in nats.items()},
            "quoting": quoting(model, self.tokenizer, count),
            "stories": style_samples(model, self.tokenizer, tinyworld.stories(93, "test"), count),
            "zero_shot": {t: asdict(zero_shot(model, self.tokenizer, t, count)) for t in ("cnndm", "tldr")},
        }


class ProseProbe:
    """Measures of a base model of somebody's own prose."""

    def __init__(self, tokenizer, held_out: list[str]):
        self.tokenizer, self.held_out = tokenizer, held_out

    def quick(self, model) -> dict[str, float]:
        model.eval()
        return {"nats_prose": nats_per_token(model, self.tokenizer, self.held_out[:60])}

    def full(self, model) -> dict:
        """For the card."""
        model.eval()
        return {"perplexity": {"prose": math.exp(nats_per_token(model, self.tokenizer, self.held_out[:300]))}}


WANTED = """| measure | wanted | measured |
|---|---|---|
| content quoting (mean probability of the right name, place or number) | above 0.9 | {quote:.3f} |
| sentence novelty after "TL;DR:", articles / posts | 85-97% | {n1:.1%} / {n2:.1%} |
| true summaries, articles / posts | 10-30% | {t1:.1%} / {t2:.1%} |
| grammatical sentences in stories | - | {grammar:.1%} |
| entropy of a 24-token response at temperature 0.7 | - | {entropy:.1f} nats |
"""


def write(out: Path, card: dict, log: Path) -> None:
    """Beside the model: ``card.json``, a README that quotes it, and the learning curve's rows."""
    shutil.copyfile(log, out / "pretraining_log.jsonl")
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    lines = [f"# The kit's base model ({card['corpus']})", "",
             f"A GPT-2 of {card['parameters']:,} parameters, trained from nothing by `make base` in "
             f"{card['seconds'] / 60:.0f} minutes of wall time on the machine that made it. It plays GPT-2's part.", "",
             "Held-out perplexity a token: "
             + ", ".join(f"{kind} {value:.2f}" for kind, value in card["perplexity"].items()) + ".", ""]  # fmt: skip
    if "zero_shot" in card:
        zero = card["zero_shot"]
        lines.append(WANTED.format(
            quote=card["quoting"]["quote_content"], n1=zero["cnndm"]["novelty"], n2=zero["tldr"]["novelty"],
            t1=zero["cnndm"]["truth"], t2=zero["tldr"]["truth"], grammar=card["stories"]["grammatical"],
            entropy=card["stories"]["sequence_entropy"]))  # fmt: skip
    (out / "README.md").write_text("\n".join(lines))
