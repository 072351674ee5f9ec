"""Prompts, truncation, penalty: hand-computed on a tokenizer of single characters, and on GPT-2's own vocabulary."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from core_models import STYLE, TEXTS, tiny_tokenizer

from rlhf_lib.errors import KitError
from rlhf_lib.profiles import CNNDM_TEXT, STYLE_TEXT, TLDR_TEXT
from rlhf_lib.tasks import Queries, QueryStream, Task, build_queries

GPT2_BPE = Path(__file__).parents[2].parent / "shared/real/gpt2_bpe"


def words(task, text):
    ids = task.query_tokens(text)
    return None if ids is None else task.decode(ids)


def test_query_starts_after_first_and_ends_with_last_period(task):
    assert words(task, "ab. cd. ef. gh") == " cd. ef."
    assert words(task, "a. bcdefg. hijklmnop.") == " bcdefg."  # cut to 12 tokens first, then back to the period
    assert words(task, "no period here") is None  # no start token: dropped
    assert words(task, "a. no second one here") is None  # no end token in the window: dropped
    assert words(task, "whole.") == "whole."  # the start token in last place keeps the text whole


def test_queries_are_left_padded_and_dropped_texts_leave_no_row(task):
    queries = build_queries(["none", "a. b.", "x. yz."], task)
    assert queries.source == [1, 2]
    assert [task.decode(i, m) for i, m in zip(queries.ids, queries.mask, strict=True)] == [" b.", " yz."]
    assert queries.mask.tolist()[0] == [False] * 9 + [True] * 3
    with pytest.raises(KitError, match="make 2 queries"):
        build_queries(["none", "a. b.", "x. yz."], task, limit=5)


def test_context_puts_prefix_and_suffix_around_the_real_tokens(tokenizer):
    task = Task("tldr", replace(STYLE, prefix="A:", suffix="\nB:"), tokenizer)
    queries = build_queries(["a. bc.", "a. d."], task)
    ids, mask = task.context(queries.ids, queries.mask)
    assert ids.shape == mask.shape == (2, 2 + 12 + 3)
    assert [task.decode(i, m) for i, m in zip(ids, mask, strict=True)] == ["A: bc.\nB:", "A: d.\nB:"]
    assert mask[1].tolist() == [False] * 9 + [True] * 8


def encode_responses(task, *texts):
    return torch.tensor([task.encode(t) for t in texts])


def test_truncation_keeps_the_token_and_ignores_early_ones(task):
    responses = encode_responses(task, "ab.defgh", "abcd.f.h", "abcdefg.", "a.bcdefg")
    cut, mask = task.truncate(responses)
    assert mask.sum(1).tolist() == [8, 5, 8, 8]  # early ".", first late ".", "." at the end, none late
    assert task.decode(cut[1], mask[1]) == "abcd."
    assert (cut[1, 5:] == task.pad_id).all()
    assert task.passes(responses).tolist() == [False, True, True, False]


def test_truncation_at_exactly_the_first_allowed_index(task):
    assert task.passes(encode_responses(task, "abcd.fgh", "abc.efgh")).tolist() == [True, False]


def test_penalty_replaces_the_score(task):
    responses = encode_responses(task, "ab.defgh", "abcd.f.h")
    assert task.penalise(torch.tensor([5.0, 0.5]), responses).tolist() == [-1.0, 0.5]


def test_truncation_rule_against_a_plain_loop(task):
    generator = torch.Generator().manual_seed(0)
    responses = torch.randint(25, 32, (500, 8), generator=generator)  # "." is 28: often, early and late
    cut, mask = task.truncate(responses)
    for row, got, kept, ok in zip(responses.tolist(), cut.tolist(), mask.tolist(), task.passes(responses), strict=True):
        late = [i for i in range(4, 8) if row[i] == task.truncate_id]
        n = late[0] + 1 if late else 8
        assert got == row[:n] + [task.pad_id] * (8 - n)
        assert kept == [True] * n + [False] * (8 - n)
        assert bool(ok) == bool(late)


def test_token_that_is_not_single_is_refused(tokenizer):
    with pytest.raises(KitError, match="2 tokens"):
        Task("bad", replace(STYLE, truncate_token=".."), tokenizer)


def test_query_stream_resumes_repeats_and_shares_nothing_between_ranks(task):
    queries = build_queries(TEXTS, task)
    a, b = QueryStream(queries, task), QueryStream(queries, task)
    first = [a.next(5)[0] for _ in range(8)]  # 40 of 16: wraps inside a batch
    b.position = 20
    assert all(torch.equal(x, b.next(5)[0]) for x in first[4:])
    everything = sorted(torch.cat(first)[:16].tolist())
    assert everything == sorted(queries.ids.tolist())  # one pass sees each query once
    marked = Queries(torch.arange(16)[:, None], torch.ones(16, 1, dtype=torch.bool), [])
    ranks = [set(QueryStream(marked, task, rank=r, world=2).next(8)[0].flatten().tolist()) for r in (0, 1)]
    assert not ranks[0] & ranks[1]
    assert len(ranks[0] | ranks[1]) == 16


@pytest.mark.skipif(not GPT2_BPE.is_dir(), reason="the GPT-2 vocabulary of shared/real is not here")
def test_gpt2_token_facts():
    from transformers import GPT2TokenizerFast

    vocab, merges = (next(GPT2_BPE.glob(p), None) for p in ("*vocab*.json", "*merges*.txt"))
    if vocab is None:
        vocab, merges = next(GPT2_BPE.glob("encoder.json")), next(GPT2_BPE.glob("*.bpe"))
    tokenizer = GPT2TokenizerFast(vocab=str(vocab), merges=str(merges))
    style, cnndm, tldr = (Task("t", t, tokenizer) for t in (STYLE_TEXT, CNNDM_TEXT, TLDR_TEXT))
    assert (style.truncate_id, style.start_id, style.end_id) == (13, 13, 13)
    assert (cnndm.truncate_id, tldr.truncate_id) == (198, 198)
    assert cnndm.prefix_ids == [14906, 25, 628]
    assert cnndm.suffix_ids == tldr.suffix_ids == [198, 198, 14990, 26, 7707, 25]
    for text, token in ((" .", 764), ('."', 526), (' ."', 22135), ("...", 986), ("..", 492)):
        assert style.encode(text) == [token]  # none of these ends a sentence
    assert not style.passes(torch.tensor([[764, 526, 986] * 8])).item()
    ids, mask = cnndm.context(torch.zeros(1, 500, dtype=torch.long), torch.ones(1, 500, dtype=torch.bool))
    assert ids.shape == mask.shape == (1, 509)


def test_own_tokenizer_round_trip():
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode(tokenizer.encode("ab. c\n;")) == "ab. c\n;"


def test_texts_that_make_too_short_a_query_are_dropped(tokenizer):
    text = replace(STYLE, query_min=5)
    assert Task("sentiment", text, tokenizer).query_tokens("a. bcd. ef") == tokenizer.encode(" bcd.")
    assert Task("sentiment", text, tokenizer).query_tokens("a. bc. ef") is None
    assert len(Task("sentiment", STYLE, tokenizer).query_tokens("a. bc. ef")) == 4
