"""Pretraining the base model: ``python -m rlhf_lib base``. From nothing to a model that can quote, on two cores.

Two stages, because quoting comes in a phase change: first random words repeated (induction is learned there
and nowhere else at this size), then the world's mixed text with repeats kept in. With ``--corpus`` the text
is the user's own prose and there is nothing to quote, so only the second stage runs.
"""

import argparse
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rlhf_lib.corpora import pretraining, textfile
from rlhf_lib.errors import KitError


@dataclass(frozen=True)
class Recipe:
    """Every number of the pretraining."""

    vocab_size: int = 3072  # tokens
    n_positions: int = 256  # tokens; the longest prompt and its response need 190
    width: int = 128
    layers: int = 4
    heads: int = 4
    repeat_steps: int = 700  # of 64 sequences x 56 tokens
    steps: int = 5000  # of 32 blocks x 192 tokens
    block: int = 192  # tokens
    micro_batch: int = 8  # blocks at once: what stays in a laptop's cache
    batch: int = 32  # blocks a step
    repeats_share: float = 0.15  # of the mixed stage: random words repeated
    quoted_share: float = 0.30  # of the mixed stage: sentences, then the same sentences again
    few_share: float = 0.6  # of the mixed stage's repeats: of few different tokens, so that one does not tell the next
    lr: float = 2e-3  # peak, per step of Adam
    dropout: float = 0.0
    seed: int = 1


def sinusoids(positions: int, width: int, amplitude: float = 0.05) -> torch.Tensor:
    """[positions, width] sine and cosine waves: "the token before" is then a rotation, easy for a head to find."""
    angle = torch.arange(positions)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return amplitude * torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(positions, width)


def new_model(recipe: Recipe) -> GPT2LMHeadModel:
    """A GPT-2 of the recipe's size, untrained."""
    torch.manual_seed(recipe.seed)
    config = GPT2Config(
        vocab_size=recipe.vocab_size, n_positions=recipe.n_positions, n_embd=recipe.width, n_layer=recipe.layers,
        n_head=recipe.heads, activation_function="gelu_pytorch_tanh", bos_token_id=0, eos_token_id=0, pad_token_id=0,
        attn_pdrop=recipe.dropout, resid_pdrop=recipe.dropout, embd_pdrop=recipe.dropout,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wte.weight.normal_(std=0.05)
        model.transformer.wpe.weight.copy_(sinusoids(recipe.n_positions, recipe.width))
    return model


def world_texts(seed: int, count: int):
    """Texts to train the tokenizer on."""
    return (pretraining.mixed_document(seed, i, "tokenizer") for i in range(count))


def world_blocks(recipe: Recipe, encode, end: int):
    """The mixed stage's blocks: documents, with repeats and quoted lines among them."""
    rng = np.random.default_rng(recipe.seed)
    packed = lambda make: pretraining.packed_blocks(make, encode, end, recipe.block)  # noqa: E731
    documents = packed(lambda i: pretraining.mixed_document(recipe.seed, i))
    quoted = packed(lambda i: pretraining.quoted_lines(recipe.seed, i))
    while True:
        u = rng.random()
        if u < recipe.repeats_share:
            yield pretraining.repeats_block(rng, recipe.vocab_size, recipe.block, recipe.few_share)
        else:
            yield next(quoted if u < recipe.repeats_share + recipe.quoted_share else documents)


def repeat_blocks(recipe: Recipe, length: int = 56):
    """The first stage's blocks. All tokens equally likely: with few different ones the change did not come."""
    rng = np.random.default_rng(recipe.seed + 7)
    while True:
        yield pretraining.repeats_block(rng, recipe.vocab_size, length)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Linear warm-up, then cosine to a twentieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))))


def loss_on(model: GPT2LMHeadModel, blocks: torch.Tensor, bf16: bool) -> torch.Tensor:
    """Mean next-token cross-entropy in nats over blocks [B, T]."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16 and blocks.device.type == "cpu"):
        hidden = model.transformer(blocks).last_hidden_state[:, :-1]  # [B, T-1, d]
        logits = model.lm_head(hidden.reshape(-1, hidden.shape[-1]))  # [B*(T-1), V]
    return F.cross_entropy(logits.float(), blocks[:, 1:].reshape(-1))


class Pretrainer:
    """Model, optimizer, step and log; saved whole, atomically, and gone on with from there."""

    def __init__(self, recipe: Recipe, work: Path, bf16: bool):
        self.recipe, self.work, self.bf16 = recipe, work, bf16
        self.model = new_model(recipe)
        decay = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98))
        self.step, self.seconds = 0, 0.0

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step,
            "seconds": self.seconds, "recipe": asdict(self.recipe), "rng": torch.get_rng_state(),
        }  # fmt: skip
        torch.save(state, self.work / "checkpoint.tmp")
        os.replace(self.work / "checkpoint.tmp", self.work / "checkpoint.pt")

    def resume(self) -> None:
        path = self.work / "checkpoint.pt"
        if not path.exists():
            return
        try:
            state = torch.load(path, weights_only=True)
        except Exception as error:
            raise KitError(f"The checkpoint {path} is damaged: delete it to start the pretraining anew.") from error
        if state["recipe"] != asdict(self.recipe):
            raise KitError(f"{path} was made with another recipe: delete the folder {self.work} to start anew.")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        torch.set_rng_state(state["rng"])

    def update(self, blocks: np.ndarray, lr: float) -> float:
        """One Adam step on blocks [B, T], in micro-batches; returns the loss in nats a token."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.model.train()
        total, rows = 0.0, torch.from_numpy(blocks)
        for part in rows.split(self.recipe.micro_batch * max(1, self.recipe.block // rows.shape[1])):
            loss = loss_on(self.model, part, self.bf16) * (len(part) / len(rows))
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if not math.isfinite(total):
            raise KitError(f"Pretraining step {self.step}: the loss is {total}; lower --lr and start anew.")
        return total


def pretrain(trainer: Pretrainer, stages, measure, every: int = 100) -> None:
    """Run the stages ``(name, blocks, batch, steps)`` from wherever the checkpoint stands, logging to JSONL."""
    log = trainer.work / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    log.write_text("".join(json.dumps(row) + "\n" for row in rows if row["step"] <= trainer.step))
    begun = 0
    for name, blocks, batch, steps in stages:
        if trainer.step >= begun + steps:  # done before, and no later stage reads on in this one's blocks
            begun += steps
            continue
        losses, clock = [], time.perf_counter()
        for local in range(steps):
            rows = list(islice(blocks, batch))  # drawn even for steps done before, so that a resumed run reads on
            if begun + local < trainer.step:
                continue
            losses.append(trainer.update(np.stack(rows), learning_rate(local, steps, trainer.recipe.lr)))
            trainer.step += 1
            if trainer.step % every == 0 or local == steps - 1:
                trainer.seconds += time.perf_counter() - clock
                row = {"step": trainer.step, "stage": name, "loss": float(np.mean(losses))}
                row |= {"seconds": round(trainer.seconds, 1)} | measure(trainer.model)
                with open(log, "a") as stream:
                    stream.write(json.dumps(row) + "\n")
                shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
                print(" ".join(shown), flush=True)
                trainer.save()
                losses, clock = [], time.perf_counter()
        begun += steps


def wrap_tokenizer(tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers opens it; its one special token ends texts and is never needed for padding."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=pretraining.END, bos_token=pretraining.END,
                                   pad_token=pretraining.END, model_max_length=10**6)  # fmt: skip


def make_base(out: Path, work: Path, corpus: str | None, recipe: Recipe, bf16: bool) -> dict:
    """Train (or go on training) a base model, write it to ``out`` with its card, and return the card."""
    from rlhf_lib import basecard

    work.mkdir(parents=True, exist_ok=True)
    if corpus:
        train, test = textfile.split_paragraphs(textfile.read_paragraphs(corpus))
        tokenizer = wrap_tokenizer(pretraining.train_tokenizer(iter(train), recipe.vocab_size))
    else:
        train, test = [], []
        tokenizer = wrap_tokenizer(pretraining.train_tokenizer(world_texts(recipe.seed, 12000), recipe.vocab_size))
    encode = lambda text: tokenizer(text)["input_ids"]  # noqa: E731
    trainer = Pretrainer(recipe, work, bf16)
    trainer.resume()
    if corpus:
        blocks = pretraining.running_blocks(train, encode, 0, recipe.block, np.random.default_rng(recipe.seed))
        stages = [("prose", blocks, recipe.batch, recipe.steps)]
        probe = basecard.ProseProbe(tokenizer, test)
    else:
        stages = [("repeats", repeat_blocks(recipe), 64, recipe.repeat_steps),
                  ("mixed", world_blocks(recipe, encode, 0), recipe.batch, recipe.steps)]  # fmt: skip
        probe = basecard.WorldProbe(tokenizer)
    pretrain(trainer, stages, probe.quick)
    trainer.model.eval()
    trainer.model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    card = {"recipe": asdict(recipe), "corpus": Path(corpus).name if corpus else "tinyworld",
            "parameters": sum(p.numel() for p in trainer.model.parameters()),
            "seconds": round(trainer.seconds), "steps": trainer.step} | probe.full(trainer.model)  # fmt: skip
    basecard.write(out, card, work / "log.jsonl")
    return card


def main(argv: list[str] | None = None) -> int:
    """Command line of ``make base``."""
    parser = argparse.ArgumentParser(prog="python -m rlhf_lib base", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/base"), help="folder of the finished model")
    parser.add_argument("--work", type=Path, help="folder of checkpoint and log (default: data/runs/base-<out>)")
    parser.add_argument("--corpus", help="a text or JSONL file to train on instead of the embedded world")
    parser.add_argument("--steps", type=int, help="steps of the main stage")
    parser.add_argument("--repeat-steps", type=int, help="steps of the first stage (embedded world only)")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    given = {"steps": args.steps, "repeat_steps": args.repeat_steps, "lr": args.lr, "seed": args.seed}
    defaults = {"dropout": 0.1, "steps": 3000, "lr": 1e-3} if args.corpus else {}
    recipe = Recipe(**(defaults | {k: v for k, v in given.items() if v is not None}))
    supports = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    bf16 = args.precision == "bf16" or (args.precision == "auto" and supports)
    work = args.work or Path("data/runs") / f"base-{args.out.name}"
    card = make_base(args.out, work, args.corpus, recipe, bf16)
    print(json.dumps(card, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
