"""Labels from people, a batch at a time: a training that needs them stops, and goes on when they are there."""

from collections.abc import Callable

from rlhf_lib.labels.exporting import for_fitting
from rlhf_lib.labels.frames import SAMPLE_COLUMNS
from rlhf_lib.labels.pause import Waiting
from rlhf_lib.labels.store import LabelStore


def queue_of(name: str, number: int) -> str:
    """The queue that holds round ``number`` of a collection."""
    return f"{name}-round-{number}"


def ask_people(
    store: LabelStore, name: str, policy: str = "", overlap_share: float = 0.0
) -> Callable[[list[dict], int, int], list[dict]]:
    """An `ask` for `rounds.train` that puts each batch into a queue of the label store and hands back the labels.

    Args:
        store: where the widget of notebook 02 finds the comparisons, and leaves the labels.
        name: of the collection; round r is the queue "<name>-round-<r>".
        policy: kept with each item, to know later what wrote the samples.
        overlap_share: share of comparisons that goes to two labelers, for `quality.py`.

    The function raises Waiting until every comparison of the round has been labeled, or skipped by somebody.
    """

    def ask(rows: list[dict], number: int, before: int) -> list[dict]:
        queue = queue_of(name, number)
        if store.count_items(queue) == 0:
            items = [{"query": row["query"], "samples": row["responses"], "round": number, "policy": policy or None}
                     for row in rows]  # fmt: skip
            store.add_items(queue, items, overlap_share=overlap_share)
        labels = store.labels_frame(queue=queue)
        done = set(labels["comparison_id"]) | {event.item_id for event in store.events("skip", queue=queue)}
        missing = store.count_items(queue) - len(done)
        if missing > 0:
            raise Waiting(
                f"{missing} of {len(rows)} comparisons of round {number} wait for a label in the queue '{queue}' of "
                f"{store.url}; label them in notebook 02's widget, then run this again."
            )
        return [
            {"query": row["query"], "responses": [row[column] for column in SAMPLE_COLUMNS], "best": int(row["best"]),
             "labeler": row["labeler"]}
            for row in for_fitting(labels).to_dict("records")
        ]  # fmt: skip

    return ask
