"""A causal language model of transformers with a value head: load, sample, score, save."""

from __future__ import annotations

import copy
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_lib.cores import side_by_side, workers_for
from rlhf_lib.cpu import keep_freed_memory, quicken
from rlhf_lib.errors import KitError
from rlhf_lib.memory import is_out_of_memory
from rlhf_lib.network import offline_if_unreachable
from rlhf_lib.sampling import Samples, sample, scaled_logits
from rlhf_lib.states import pads_to_the_right, read_states

VALUE_HEAD_FILE = "value_head.safetensors"


def load_lm(name_or_folder: str | Path, dtype: str | torch.dtype = torch.float32, device: str = "cpu"):
    """Open a causal LM and its tokenizer from a hub name or a folder.

    Returns (model, tokenizer): dropout off, the tokenizer with some pad token (masks, not the pad's id, say what is
    padding). Raises KitError for a missing folder or hub, damaged or foreign weights, and tokenizer trouble.
    """
    keep_freed_memory()
    name = str(name_or_folder)
    if _looks_like_folder(name) and not Path(name).is_dir():
        raise KitError(f"There is no model folder '{name}'; check the path, or make it with `make base`.")
    with nullcontext() if _looks_like_folder(name) else offline_if_unreachable():
        model, tokenizer = _load_model(name, _as_dtype(dtype)).to(device), _load_tokenizer(name)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        raise KitError(f"The tokenizer in '{name}' has more tokens than its model; save the one it was trained with.")
    return model, tokenizer


def _looks_like_folder(name: str) -> bool:
    return Path(name).exists() or name.startswith((".", "/", "~", "data/")) or name.count("/") > 1


def _as_dtype(dtype: str | torch.dtype) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype):
        raise KitError(f"'{dtype}' is not a torch dtype; use float32 or bfloat16.")
    return found


@contextmanager
def no_loading_report() -> Iterator[None]:
    """Without transformers' table of weights that do not fit, a page long: who loads says it in a sentence."""

    def quiet(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    log = logging.getLogger("transformers.modeling_utils")
    log.addFilter(quiet)
    try:
        yield
    finally:
        log.removeFilter(quiet)


def _load_model(name: str, dtype: torch.dtype):
    try:
        with no_loading_report():
            model, info = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, output_loading_info=True)
    except Exception as error:  # transformers, hub and safetensors raise a dozen unrelated types
        raise KitError(_load_sentence(name, error)) from error
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    missing = sorted(k for k in info["missing_keys"] if k not in tied)
    if missing or info.get("mismatched_keys"):
        what = missing[0] if missing else str(next(iter(info["mismatched_keys"])))
        raise KitError(f"The weights in '{name}' do not fit its config.json (see {what}); save the model again.")
    if any(key.startswith("score.") for key in info["unexpected_keys"]):
        raise KitError(
            f"'{name}' has a score head: it is a reward model, no language model; give the one it was made of."
        )
    prepare(model)
    check_architecture(model)
    return model


def _load_sentence(name: str, error: Exception) -> str:
    if is_out_of_memory(error):
        return f"There is not enough memory to open the model '{name}'; take a smaller one, or close what else runs."
    text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    if not _looks_like_folder(name):
        return (
            f"The model '{name}' could not be had from the Hugging Face hub ({text}); download it on a machine with a "
            "network and give the folder instead."
        )
    if not (Path(name) / "config.json").is_file():
        return f"The folder '{name}' holds no config.json, so it is not a Hugging Face model; point to one that is."
    if not any(Path(name).glob("model*.safetensors")):
        return f"The folder '{name}' holds no safetensors weights; save the model with save_pretrained."
    return f"The model in '{name}' cannot be opened as a causal language model ({text}); copy or save it again."


def _load_tokenizer(name: str):
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise KitError(f"'{name}' has no usable tokenizer ({text}); save one beside the model.") from error
    if not set(tokenizer.encode("word", add_special_tokens=False)) - {tokenizer.unk_token_id}:
        raise KitError(f"The tokenizer in '{name}' is empty or missing; save one beside the model.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def prepare(model: nn.Module) -> nn.Module:
    """Dropout off (detail 13), and the layers that have one in their quick form."""
    set_dropout(model, 0.0)
    quicken(model)
    return model


def set_dropout(model: nn.Module, p: float) -> None:
    """Set every dropout of a model; 0 everywhere but in sft.py (detail 13)."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = p
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = p
    model.train(p > 0)


@torch.no_grad()
def check_architecture(lm) -> None:
    """KitError unless head(body(ids)) are the model's logits: we project response positions only, and rely on it."""
    device = next(lm.parameters()).device
    ids = torch.arange(4, device=device)[None] % lm.config.vocab_size
    head = lm.get_output_embeddings()
    mine = None if head is None else head(lm.base_model(input_ids=ids).last_hidden_state)
    if mine is None or not torch.allclose(mine.float(), lm(input_ids=ids).logits.float(), atol=1e-2, rtol=1e-2):
        kind = lm.config.model_type
        raise KitError(f"Models of type '{kind}' change their logits after the last layer; use a GPT-2 or Llama type.")


class Policy(nn.Module):
    """A language model and a value head on one shared trunk; the head starts at zero (detail 11, section 3.3).

    `autocast` (torch.bfloat16 or None) is the arithmetic of forward passes; weights stay in their own type.
    """

    def __init__(self, lm, autocast: torch.dtype | None = None):
        super().__init__()
        self.lm, self.autocast = lm, autocast
        width = lm.get_input_embeddings().weight.shape[1]
        self.value_head = nn.Linear(width, 1, device=self.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    @property
    def device(self) -> torch.device:
        return next(self.lm.parameters()).device

    def frozen_copy(self) -> Policy:
        """An independent copy that no optimizer will touch: the reference model."""
        return copy.deepcopy(self).requires_grad_(False)

    def _precision(self):
        return torch.autocast(self.device.type, self.autocast) if self.autocast else nullcontext()

    def _check_fits(self, total: int) -> None:
        room = getattr(self.lm.config, "max_position_embeddings", None)
        if room is not None and total > room:
            raise KitError(
                f"Prompt and response need {total} positions but the model has {room}; "
                "shorten query_length or response_length in the profile."
            )

    def sample(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        length: int,
        temperature: float,
        generator: torch.Generator,
        micro_batch: int | None = None,
        repeats: int = 1,
    ) -> Samples:
        """Sample `length` tokens after each left-padded prompt, `repeats` times each; no gradients.

        ids, mask: [prompts, prompt]. Returns Samples: responses, log-probabilities at the temperature, values, each
        [prompts * repeats, length], the samples of one prompt together. One uniform number a token comes from
        `generator`, so micro_batch (in prompts) changes no sample.
        """
        self._check_fits(ids.shape[1] + length)
        shape = (len(ids), repeats * length)
        uniform = torch.rand(shape, dtype=torch.float64, generator=generator, device=generator.device)
        uniform, ids, mask = uniform.to(self.device), ids.to(self.device), mask.to(self.device)
        with self._precision():
            parts = [
                sample(self.lm, i, m, length, temperature, u.view(-1, length), self.value_head, repeats)
                for i, m, u in _chunks(micro_batch or len(ids), ids, mask, uniform)
            ]
        return Samples(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, responses: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities (nats) and values of response tokens, with gradients: two tensors [batch, length].

        ids, mask: [batch, prompt], left-padded. Both are read at the position before each token, and the vocabulary
        is projected only there.
        """
        hidden = self._response_states(ids, mask, responses)  # [batch, length, width]
        with self._precision():
            logits = scaled_logits(self.lm.get_output_embeddings(), hidden, temperature)  # [batch, length, vocab]
            values = self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1)
        return token_logprobs(logits, responses.to(self.device)), values.float()

    def _response_states(self, ids: torch.Tensor, mask: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Hidden states that predict the response: [batch, length, width]."""
        self._check_fits(ids.shape[1] + responses.shape[1])
        responses, length = responses.to(self.device), responses.shape[1]
        fed = responses[:, :-1]  # the last token predicts nothing that we need
        full_ids = torch.cat([ids.to(self.device), fed], dim=1)  # [batch, prompt + length - 1]
        full_mask = torch.cat([mask.to(self.device).bool(), torch.ones_like(fed, dtype=torch.bool)], dim=1)
        full_ids, lengths = pads_to_the_right(full_ids, full_mask)
        wanted = (lengths - length)[:, None] + torch.arange(length, device=self.device)  # from the prompt's last token
        with self._precision():
            return read_states(self.lm.base_model, full_ids, wanted)

    @torch.no_grad()
    def logprobs(
        self, ids: torch.Tensor, mask: torch.Tensor, responses: torch.Tensor, temperature: float, micro_batch: int = 64
    ) -> torch.Tensor:
        """Log-probabilities [batch, length] of given responses, no gradients, a micro-batch at a time."""
        by_length = mask.sum(1).argsort(stable=True)  # like lengths beside one another: fewer pads
        parts = by_length.split(micro_batch)
        one = lambda rows: self(ids[rows], mask[rows], responses[rows], temperature)[0]  # noqa: E731
        return torch.cat(list(side_by_side(one, parts, workers_for(self, len(parts)))))[by_length.argsort()]

    def save(self, folder: str | Path, tokenizer=None) -> Path:
        """Write a folder that AutoModelForCausalLM opens (safetensors), the value head beside it; atomic."""
        with atomic_folder(folder) as temporary:
            self.lm.save_pretrained(temporary)
            save_file(self.value_head.state_dict(), temporary / VALUE_HEAD_FILE)
            if tokenizer is not None:
                tokenizer.save_pretrained(temporary)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, dtype=torch.float32, device: str = "cpu", autocast=None) -> tuple[Policy, object]:
        """Open what `save` wrote (or any causal LM: the value head is then zero). Returns (policy, tokenizer).

        Raises KitError for a damaged value head, and as `load_lm`.
        """
        lm, tokenizer = load_lm(folder, dtype, device)
        policy = cls(lm, autocast)
        file = Path(folder) / VALUE_HEAD_FILE
        if file.is_file():
            try:
                policy.value_head.load_state_dict(load_file(file))
            except Exception as error:
                raise KitError(f"The value head '{file}' is damaged; delete it to start from zero.") from error
        return policy, tokenizer


def token_logprobs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """log softmax at the tokens, nats. [batch, time, vocab], [batch, time] -> [batch, time]."""
    return -F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)


def _chunks(size: int, *tensors: torch.Tensor):
    """Pieces of at most `size` rows of several tensors, in step."""
    return zip(*(t.split(size) for t in tensors), strict=True)


class atomic_folder:
    """Write a folder beside its final place and swap it in at the end; an error leaves the old one as it was."""

    def __init__(self, folder: str | Path):
        self.final = Path(folder)
        self.temporary = self.final.with_name(f".{self.final.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Path:
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        return self.temporary

    def __exit__(self, kind, *_):
        if kind is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)
            return
        old = self.final.with_name(f".{self.final.name}.{os.getpid()}.old")
        if self.final.exists():
            os.replace(self.final, old)
        os.replace(self.temporary, self.final)
        shutil.rmtree(old, ignore_errors=True)
