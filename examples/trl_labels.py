"""Have people label completions that TRL sampled, four at a time, in the kit's widget; and give TRL the pairs back.

    python examples/trl_labels.py add completions.jsonl    # rows of `prompt` and `completion`, four a prompt
    python -m rlhf_lib label --queue trl                   # the labeling page
    python examples/trl_labels.py pairs pairs              # a folder of `prompt, chosen, rejected` for TRL, with a card

Completions may be plain text or TRL's conversations (the last message counts).
"""

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd

from rlhf_lib.cards import write_data_card
from rlhf_lib.errors import KitError
from rlhf_lib.labels import comparisons, exporting
from rlhf_lib.labels.store import LabelStore


def text_of(value):
    """A text, or the last message of a conversation."""
    return value if isinstance(value, str) else value[-1]["content"]


def add(path: Path, queue: str, store: LabelStore) -> int:
    """Put every prompt that has four different completions into a queue; how many comparisons that is."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        frame = pd.DataFrame([{"query": text_of(r["prompt"]), "response": text_of(r["completion"])} for r in rows])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise KitError(f"{path} must hold JSON lines with 'prompt' and 'completion' ({error!r}).") from error
    items = comparisons.from_samples(frame, len(frame))
    store.add_items(queue, items)
    return len(items)


def pairs(folder: Path, queue: str, store: LabelStore) -> int:
    """Write what was labeled as TRL's preference rows, with a data card for the hub; how many rows there are."""
    labels = store.labels_frame(queue=queue)
    rows = exporting.pair_rows(labels)
    if not rows:
        raise KitError(f"Nothing is labeled in the queue '{queue}' yet; label first: python -m rlhf_lib label.")
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "train.jsonl").write_text(lines, encoding="utf-8")
    columns = {"prompt": "what was asked", "chosen": "the best of four", "rejected": "one of the other three"}
    simulated = labels["labeler"].str.contains("simulated", case=False).any()
    write_data_card(folder, f"Preferences from the queue {queue}", "One pair a row.", len(rows), simulated, columns)
    return len(rows)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("add", "pairs"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--queue", default="trl")
    options = parser.parse_args(argv)
    with closing(LabelStore()) as store:
        count = {"add": add, "pairs": pairs}[options.what](options.file, options.queue, store)
    said = {"add": "comparisons put into", "pairs": f"pairs written to {options.file} from"}[options.what]
    print(f"{count} {said} the queue {options.queue}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KitError as error:
        sys.exit(str(error))
