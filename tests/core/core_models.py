"""What the tests of the core are made of."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from rlhf_lib.policy import set_dropout
from rlhf_lib.profiles import TextConfig
from rlhf_lib.tasks import QueryStream, Task, build_queries

VOCAB = 64
STYLE = TextConfig(
    query_length=12,
    response_length=8,
    temperature=0.7,
    truncate_after=4,
    truncate_token=".",
    start_text=".",
    end_text=".",
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, 64 at most: easy to count by hand."""
    characters = ["<eos>", *"abcdefghijklmnopqrstuvwxyz .\n:;,!?0123456789ABCDEFGHIJKLMNOP"][:VOCAB]
    raw = Tokenizer(models.WordLevel({c: i for i, c in enumerate(characters)}, unk_token="<eos>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", pad_token="<eos>")


def tiny_lm(kind: str = "gpt2", seed: int = 0, width: int = 32, layers: int = 2, vocab: int = VOCAB):
    """A random causal LM; a large initialisation makes its distributions far from uniform."""
    torch.manual_seed(seed)
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=vocab,
            n_positions=64,
            n_embd=width,
            n_layer=layers,
            n_head=2,
            initializer_range=0.3,
            bos_token_id=0,
            eos_token_id=0,
        )
        lm = GPT2LMHeadModel(config)
    else:
        make = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}[kind]
        config = make[0](
            vocab_size=vocab,
            hidden_size=width,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.3,
            bos_token_id=0,
            eos_token_id=0,
        )
        lm = make[1](config)
    set_dropout(lm, 0.0)
    return lm


TEXTS = [f"start {i}. {'the cat '[: i % 9]}{w}. it goes on and on" for i, w in enumerate("abcdefghijklmnop")]


def stream(tokenizer, text: TextConfig = STYLE, seed: int = 0) -> QueryStream:
    """An endless stream of 16 short queries of different lengths."""
    task = Task("sentiment", text, tokenizer)
    return QueryStream(build_queries(TEXTS, task), task, seed)
