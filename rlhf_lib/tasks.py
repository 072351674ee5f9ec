"""The four tasks: from text to prompts, and the rule that cuts and penalises responses (original section 1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from rlhf_lib.errors import KitError
from rlhf_lib.profiles import TextConfig


def single_token(tokenizer, text: str) -> int:
    """The id of `text`, which must be one token of the vocabulary; KitError otherwise."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) != 1:
        raise KitError(
            f"The tokenizer writes {text!r} as {len(ids)} tokens, but the task needs it as one; "
            "choose a tokenizer that has it, or another truncate_token/start_text/end_text."
        )
    return ids[0]


class Task:
    """One task bound to one tokenizer: prompts in, truncation and penalty out.

    Pads carry `pad_id` for looks only; every function is told what is real by a mask.
    """

    def __init__(self, name: str, text: TextConfig, tokenizer):
        self.name, self.text, self.tokenizer = name, text, tokenizer
        self.prefix_ids = self.encode(text.prefix)
        self.suffix_ids = self.encode(text.suffix)
        self.truncate_id = single_token(tokenizer, text.truncate_token)
        self.start_id = None if text.start_text is None else single_token(tokenizer, text.start_text)
        self.end_id = None if text.end_text is None else single_token(tokenizer, text.end_text)
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0

    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []

    def decode(self, ids, mask=None) -> str:
        """Text of one row of ids; masked-out positions are left out."""
        ids = torch.as_tensor(ids)
        ids = ids if mask is None else ids[torch.as_tensor(mask).bool()]
        return self.tokenizer.decode(ids.tolist(), clean_up_tokenization_spaces=False)

    def query_tokens(self, text: str) -> list[int] | None:
        """Tokens of the query made from one text, or None if the text has to be dropped (section 1.3)."""
        ids = self.encode(text)
        if self.start_id is not None:
            if self.start_id not in ids:
                return None
            first = ids.index(self.start_id)
            if first < len(ids) - 1:  # a start token in last place keeps the text whole, as in the original
                ids = ids[first + 1 :]
        ids = ids[: self.text.query_length]
        if self.end_id is not None:
            if self.end_id not in ids:
                return None
            ids = ids[: len(ids) - ids[::-1].index(self.end_id)]
        return ids if len(ids) >= max(1, self.text.query_min) else None

    def context(self, query_ids: torch.Tensor, query_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the policy reads: prefix + query + suffix, still left-padded.

        query_ids, query_mask: [batch, query]. Returns ids and mask, [batch, prefix + query + suffix].
        """
        if not self.prefix_ids and not self.suffix_ids:
            return query_ids, query_mask
        rows = [
            self.prefix_ids + q[m.bool()].tolist() + self.suffix_ids for q, m in zip(query_ids, query_mask, strict=True)
        ]
        width = len(self.prefix_ids) + query_ids.shape[1] + len(self.suffix_ids)
        ids, mask = left_pad(rows, width, self.pad_id)
        return ids.to(query_ids.device), mask.to(query_ids.device)

    def _ends(self, responses: torch.Tensor) -> torch.Tensor:
        """[batch, response] bool: truncate tokens at index >= truncate_after."""
        late = torch.arange(responses.shape[1], device=responses.device) >= self.text.truncate_after
        return (responses == self.truncate_id) & late

    def passes(self, responses: torch.Tensor) -> torch.Tensor:
        """[batch] bool: the response ends in time. Labelers see only these; all others get the penalty."""
        return self._ends(responses).any(1)

    def truncate(self, responses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut after the first truncate token at index >= truncate_after; the token stays (detail 14).

        responses: [batch, response]. Returns ids with everything after the cut set to pad, and the mask of what
        is left. A response without such a token is returned whole.
        """
        ends = self._ends(responses).long()
        mask = (ends.cumsum(1) - ends) == 0  # no end strictly before this position
        return responses.masked_fill(~mask, self.pad_id), mask

    def penalise(self, scores: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Scores [batch] of untruncated responses, replaced by the penalty where `passes` is false (detail 14)."""
        return torch.where(self.passes(responses), scores, torch.full_like(scores, self.text.penalty))


def left_pad(rows: list[list[int]], width: int, pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ids -> ids [n, width] int64 and mask [n, width] bool, real tokens at the right.

    The original pads in the middle and gives pads no position; left padding with position ids that count real
    tokens is the same computation (details 2, 3).
    """
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[i, width - len(row) :] = True
    return ids, mask


def right_pad(rows: list[list[int]], width: int, pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ids -> ids [n, width] int64 and mask [n, width] bool, real tokens at the left."""
    ids, mask = left_pad([row[::-1] for row in rows], width, pad_id)
    return ids.flip(1), mask.flip(1)


@dataclass
class Queries:
    """Encoded queries of one split: ids [n, query] int64, mask [n, query] bool, source: where in the texts each was."""

    ids: torch.Tensor
    mask: torch.Tensor
    source: list[int]

    def __len__(self) -> int:
        return len(self.ids)


def build_queries(texts: Iterable[str], task: Task, limit: int | None = None) -> Queries:
    """Encode a stream of texts, dropping those that cannot make a query, until `limit` queries are made.

    Raises KitError if no text (or fewer than `limit`) makes a query.
    """
    rows, source = [], []
    for i, text in enumerate(texts):
        if limit is not None and len(rows) == limit:
            break
        ids = task.query_tokens(text)
        if ids is not None:
            rows.append(ids)
            source.append(i)
    if not rows or (limit is not None and len(rows) < limit):
        wanted = f"{limit} queries were asked for" if limit else "at least one is needed"
        raise KitError(f"The texts for '{task.name}' make {len(rows)} queries but {wanted}; give more or longer ones.")
    ids, mask = left_pad(rows, task.text.query_length, task.pad_id)
    return Queries(ids, mask, source)


class QueryStream:
    """Queries for training, endless, in an order that depends on `seed` alone (the original: always seed 0).

    Its whole state is `position`, the number of queries handed out, so that a run can be resumed. With several
    ranks, rank r takes every world-th query: ranks never share one.
    """

    def __init__(self, queries: Queries, task: Task, seed: int = 0, rank: int = 0, world: int = 1):
        keep = torch.arange(rank, len(queries), world)
        if not len(keep):
            raise KitError(f"{len(queries)} queries are too few for {world} processes; give at least one for each.")
        self.ids, self.mask, self.task, self.seed = queries.ids[keep], queries.mask[keep], task, seed
        self.position = 0
        self._pass, self._order = -1, None

    def _index(self, k: int) -> int:
        """The k-th query of the endless stream; each pass has its own permutation."""
        n = len(self.ids)
        if k // n != self._pass:
            self._pass = k // n
            self._order = torch.randperm(n, generator=torch.Generator().manual_seed(self.seed + 7919 * self._pass))
        return int(self._order[k % n])

    def next(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The next n queries: ids and mask, [n, query]."""
        rows = [self._index(self.position + i) for i in range(n)]
        self.position += n
        return self.ids[rows], self.mask[rows]
