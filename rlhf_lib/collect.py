"""From a policy to labeled comparisons: four samples a query, shown to labelers only if they end in time."""

from collections.abc import Sequence

import torch

from rlhf_lib.errors import KitError
from rlhf_lib.policy import Policy
from rlhf_lib.tasks import Queries, Task

CHUNK = 256  # samples drawn at once
TRIES = 24  # samples drawn for one place in a comparison before its query is given up


def sample_texts(
    policy: Policy, queries: Queries, task: Task, seed: int, only_passing: bool = False, each: int = 1
) -> list[dict]:
    """``each`` samples a query, as rows ``query, response, response_truncated, penalised, entropy, length``.

    Rows of one query stand together. ``only_passing``: draw again, up to `TRIES` times, until the sample passes the
    truncation filter, as was done for people's eyes (section 1.2); what never passes is returned as it is, marked
    penalised. ``entropy`` is -log probability of the whole fixed-length response at the sampling temperature, nats.
    """
    generator = torch.Generator(policy.device).manual_seed(seed)
    rows: list[dict] = []
    for part in torch.arange(len(queries)).split(max(1, CHUNK // each)):
        rows += _sample_chunk(policy, queries, part.tolist(), task, generator, each)
    for _ in range(TRIES - 1 if only_passing else 0):
        waiting = [place for place, row in enumerate(rows) if row["penalised"]]
        for start in range(0, len(waiting), CHUNK):
            places = waiting[start : start + CHUNK]
            drawn = _sample_chunk(policy, queries, [place // each for place in places], task, generator)
            for place, row in zip(places, drawn, strict=True):
                rows[place] = row
    return rows


def _sample_chunk(
    policy: Policy, queries: Queries, part: list[int], task: Task, generator: torch.Generator, each: int = 1
) -> list[dict]:
    """Sampled rows for some of the queries, ``each`` a query; the prompt is computed once for all of them."""
    ids, mask, text = queries.ids[part], queries.mask[part], task.text
    context = task.context(ids, mask)
    samples = policy.sample(*context, text.response_length, text.temperature, generator, repeats=each)
    responses = samples.responses.cpu()
    cut, cut_mask = task.truncate(responses)
    passes, entropy = task.passes(responses).tolist(), (-samples.logprobs.sum(1)).tolist()
    asked = [task.decode(ids[i], mask[i]) for i in range(len(part))]
    return [
        {"query": asked[i // each], "response": task.decode(responses[i]),
         "response_truncated": task.decode(cut[i], cut_mask[i]), "penalised": not passes[i], "entropy": entropy[i],
         "length": int(cut_mask[i].sum())}
        for i in range(len(responses))
    ]  # fmt: skip


def comparisons(policy: Policy, queries: Queries, task: Task, seed: int) -> list[dict]:
    """Four truncated samples a query for labelers, all of which end in time: rows ``query, responses``.

    Queries for which four such samples do not come in time are left out. Raises KitError if that is most of them.
    """
    flat = sample_texts(policy, queries, task, seed, only_passing=True, each=4)
    fours = [flat[i : i + 4] for i in range(0, len(flat), 4)]
    rows = [
        {"query": four[0]["query"], "responses": [row["response_truncated"] for row in four]}
        for four in fours
        if not any(row["penalised"] for row in four)
    ]
    if len(rows) < len(queries) / 2:
        raise KitError(
            f"Only {len(rows)} of {len(queries)} queries gave four samples that end in time; "
            "train the base model longer, or lower truncate_after."
        )
    return rows


def label_offline(rows: Sequence[dict], labelers: Sequence) -> list[dict]:
    """Label all comparisons before any training ("offline"): labelers take turns, one view each.

    labelers: `SimulatedLabeler`s. Returns the rows with ``best`` (0..3) and ``labeler`` (its number).
    """
    labeled: list[dict | None] = [None] * len(rows)
    for number, labeler in enumerate(labelers):
        mine = range(number, len(rows), len(labelers))
        picks = labeler.pick_many([rows[i]["query"] for i in mine], [rows[i]["responses"] for i in mine])
        for i, best in zip(mine, picks, strict=True):
            labeled[i] = {**rows[i], "best": int(best), "labeler": number}
    return labeled
