"""Four-way picks as tensors: what the reward model is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rlhf_lib.errors import KitError
from rlhf_lib.tasks import Task, left_pad, right_pad


@dataclass
class Comparisons:
    """Encoded four-way labels. Queries left-padded, responses right-padded.

    query_ids, query_mask: [n, Q]; response_ids, response_mask: [n, 4, R]; best: [n] in 0..3.
    """

    query_ids: torch.Tensor
    query_mask: torch.Tensor
    response_ids: torch.Tensor
    response_mask: torch.Tensor
    best: torch.Tensor

    def __len__(self) -> int:
        return len(self.best)

    def rows(self, index) -> Comparisons:
        """Some of the comparisons."""
        return Comparisons(*(getattr(self, f)[index] for f in self.__dataclass_fields__))


def encode_labels(rows: Sequence[dict], task: Task) -> tuple[Comparisons, dict[str, int]]:
    """Plain label rows -> tensors, without repeats and without rows whose four responses are the same.

    A row has `query` (text or token ids without pads), `responses` (four of the same) and `best` (0..3). Returns the
    comparisons and how many were dropped, by reason. Raises KitError for a malformed row or if nothing is left.
    """
    seen, kept, dropped = set(), [], {"duplicate": 0, "all_equal": 0}
    for number, row in enumerate(rows):
        query, responses, best = _encode_row(row, number, task)
        key = (query, responses, best)
        if len(set(responses)) == 1:
            dropped["all_equal"] += 1
        elif key in seen:
            dropped["duplicate"] += 1
        else:
            seen.add(key)
            kept.append(key)
    if not kept:
        raise KitError(f"None of the {len(rows)} labels can be used (dropped: {dropped}); collect some first.")
    query_ids, query_mask = left_pad([list(q) for q, _, _ in kept], task.text.query_length, task.pad_id)
    flat = [list(r) for _, responses, _ in kept for r in responses]
    shape = (len(kept), 4, task.text.response_length)
    ids, mask = right_pad(flat, task.text.response_length, task.pad_id)
    best = torch.tensor([b for _, _, b in kept])
    return Comparisons(query_ids, query_mask, ids.view(shape), mask.view(shape), best), dropped


def _encode_row(row: dict, number: int, task: Task) -> tuple[tuple, tuple, int]:
    try:
        query, responses, best = row["query"], row["responses"], row["best"]
        encoded = [tuple(task.encode(x) if isinstance(x, str) else map(int, x)) for x in (query, *responses)]
    except (KeyError, TypeError, ValueError) as error:
        raise KitError(f"Label {number} is not a row of query, four responses and best ({error!r}); fix it.") from error
    if len(responses) != 4 or isinstance(best, bool) or best not in (0, 1, 2, 3) or not all(encoded):
        raise KitError(f"Label {number} must have a query, four non-empty responses and a best of 0 to 3; fix it.")
    query = encoded[0][-task.text.query_length :]
    return query, tuple(r[: task.text.response_length] for r in encoded[1:]), int(best)


def split_by_query(data: Comparisons, share: float, seed: int) -> tuple[Comparisons, Comparisons]:
    """Set aside about `share` of the queries, with all their comparisons: (train, held out). No query is in both."""
    keys = [tuple(q[m].tolist()) for q, m in zip(data.query_ids, data.query_mask, strict=True)]
    distinct = list(dict.fromkeys(keys))
    order = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(seed)).tolist()
    held = {distinct[i] for i in order[: round(share * len(distinct))]}
    is_held = torch.tensor([k in held for k in keys])
    return data.rows(~is_held), data.rows(is_held)
