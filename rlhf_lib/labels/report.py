"""`python -m rlhf_lib quality`: the whole quality panel on a queue, for whoever runs a class or a collection."""

import argparse
from contextlib import closing

from rlhf_lib.errors import KitError
from rlhf_lib.labels.frames import moment
from rlhf_lib.labels.quality import QUESTIONS, panel
from rlhf_lib.labels.store import LabelStore


def main(argv: list[str]) -> int:
    """Print a sentence a question, "!" before what needs doing; returns 1 if there is any, so that a script can watch.

    Raises KitError for an unknown queue, a moment that is none, or where there are no labels in the window.
    """
    parser = argparse.ArgumentParser(prog="rlhf_lib quality", description=__doc__)
    parser.add_argument("--queue", default="sentiment", help="which queue of the label store (default: sentiment)")
    parser.add_argument("--since", help="only labels from this moment (UTC, such as 2026-01-31T12:00)")
    parser.add_argument("--until", help="only labels before this moment")
    parser.add_argument("--url", help="the label store (default: RLHF_LABELS_URL, else data/labels/)")
    options = parser.parse_args(argv)
    window = {name: moment(getattr(options, name), f"--{name}") for name in ("since", "until")}
    with closing(LabelStore(options.url)) as store:
        labels = store.labels_frame(queue=options.queue)  # all: an answer before the window still serves as comparison
        inside = store.labels_frame(queue=options.queue, **window)
        if inside.empty:
            why = "is unknown" if not store.count_items(options.queue) else "has no labels in this window"
            raise KitError(f"The queue {options.queue!r} {why}; name another with --queue, or widen the window.")
    alarms = 0
    for kind in (kind for kind in QUESTIONS if (inside["kind"] == kind).any()):
        rows = inside[inside["kind"] == kind]
        print(f"{kind}: {len(rows)} labels by {rows['labeler'].nunique()} labelers")
        for reading in panel(labels, **window, kind=kind):
            alarms += reading.alarm
            print(f"{'!' if reading.alarm else ' '} {reading.sentence}")
    return int(alarms > 0)
