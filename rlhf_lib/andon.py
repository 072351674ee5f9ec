"""The Andon cord: anyone who reads the samples can stop a training, and says why (the lesson of the post's sign flip).

A pull is an event in the label store, so a labeler's key, a command or any process with the store's URL can make one.
Every pull and release is kept. A pull for no run in particular stops all runs. It holds until a release lifts it, and
a release lifts the pulls that stood when it was made: one made at the same moment, which nobody has read, still holds.
"""

from __future__ import annotations

import argparse
import getpass
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rlhf_lib.errors import KitError
from rlhf_lib.labels.schema import Event
from rlhf_lib.labels.store import LabelStore

if TYPE_CHECKING:
    from rlhf_lib.training import TrainState

MISSED_POLLS = 3  # so many failed looks at the store in a row stop a training, as a pull would


@dataclass(frozen=True)
class CordState:
    """The pulls that hold now, oldest first; events of kind 'andon' with data {"reason", "run"}."""

    pulls: list[Event] = field(default_factory=list)

    @property
    def pulled(self) -> bool:
        """Whether a training should stop."""
        return bool(self.pulls)

    def sentence(self) -> str:
        """Who pulled, when, and why."""
        if not self.pulls:
            return "The cord is not pulled."
        return " ".join(said(pull) for pull in self.pulls)


def said(pull: Event) -> str:
    """One pull in a sentence."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(pull.at))
    run = pull.data.get("run")
    scope = f"the run {run}" if run else "all runs"
    reason = (pull.data.get("reason") or "no reason given").rstrip(".")
    return f"{pull.labeler or 'Somebody'} pulled the cord for {scope} at {when}: {reason}."


def concerns(event: Event, run: str | None) -> bool:
    """Whether what was said is about this run: about it by name, or about all."""
    return event.data.get("run") in (None, run)


def standing(events: list[Event], run: str | None) -> CordState:
    """Fold pulls and releases, in the order written, into the pulls that hold for a run."""
    lifted = {n for e in events if e.kind == "andon_release" and concerns(e, run) for n in e.data.get("lifts", ())}
    return CordState([e for e in events if e.kind == "andon" and concerns(e, run) and e.id not in lifted])


def history(store: LabelStore) -> list[Event]:
    """All pulls and releases, in the order written."""
    return store.events(kind=("andon", "andon_release"))


def state(run: str | None = None, url: str | None = None) -> CordState:
    """The pulls that hold for `run` now; without a run, those for all runs. url: as in `LabelStore`."""
    with closing(LabelStore(url)) as store:
        return standing(history(store), run)


def pull(reason: str, who: str, run: str | None = None, url: str | None = None) -> Event:
    """Stop `run` (None: every run) after its current update. Returns the recorded event.

    Raises KitError without a reason, or if the label store cannot be written.
    """
    check_words(reason, who)
    with closing(LabelStore(url)) as store:
        return store.append(Event("andon", labeler=who, data={"reason": reason, "run": run}))


def release(reason: str, who: str, run: str | None = None, url: str | None = None) -> Event:
    """Lift the pulls that hold now: for `run` those that concern it (others stay stopped), without a run all.

    Returns the recorded event, whose data["lifts"] are the ids of those pulls. Raises KitError if there are none.
    """
    check_words(reason, who)
    with closing(LabelStore(url)) as store:
        events = history(store)
        lifts = [e.id for e in standing(events, run).pulls] if run else [e.id for e in open_pulls(events)]
        if not lifts:
            raise KitError(f"The cord is not pulled for {run or 'any run'}, so there is nothing to release.")
        return store.append(Event("andon_release", labeler=who, data={"reason": reason, "run": run, "lifts": lifts}))


def open_pulls(events: list[Event]) -> list[Event]:
    """The pulls that still hold for some run."""
    return [e for e in events if e.kind == "andon" and e in standing(events, e.data.get("run")).pulls]


def check_words(reason: str, who: str) -> None:
    """Raise KitError unless it is said who and why."""
    if not reason.strip() or not who.strip():
        raise KitError("A pull or release of the cord needs a reason and a name: who stops or starts it, and why.")


class AndonCord:
    """Callback: after each update, look whether the cord is pulled, and stop the training if it is.

    run: the training's name; store: the label store (None: the default one); folder: where its checkpoints lie, for
    the message. List it after the MetricsWriter and Checkpointer, which save what is needed to go on.
    Raises KitError when made while the cord is pulled, so that a stopped run is not started again unawares.
    """

    def __init__(self, run: str, store: LabelStore | None = None, folder=None):
        self.run, self.store, self.folder, self.missed = run, store or LabelStore(), folder, 0
        cord = standing(history(self.store), run)
        if cord.pulled:
            raise KitError(f"{cord.sentence()} To let it go on: {self.how_to_release()}.")

    def how_to_release(self) -> str:
        """The command that lifts the pull."""
        return f'python -m rlhf_lib andon release --reason "..." --run {self.run}'

    def __call__(self, train: TrainState) -> None:
        from rlhf_lib.training import StopTraining  # torch only where something is trained

        try:
            cord = standing(history(self.store), self.run)
            self.missed = 0
        except KitError as error:
            self.missed += 1
            if self.missed >= MISSED_POLLS:
                raise StopTraining(
                    f"The cord could not be looked at {self.missed} times in a row ({error}); make the label store "
                    f"reachable and start the same training again: it goes on after update {train.step}."
                ) from None
            return
        if cord.pulled:
            where = f" (checkpoint in {self.folder})" if self.folder else ""
            raise StopTraining(
                f"{cord.sentence()} Stopped after update {train.step}{where}. To go on: {self.how_to_release()}, "
                "then start the same training again."
            )


def main(argv: list[str]) -> int:
    """`andon pull|release|status`: stop a running training, let it go on, or say how things stand."""
    parser = argparse.ArgumentParser(prog="rlhf_lib andon", description=main.__doc__)
    parser.add_argument("action", choices=("pull", "release", "status"))
    parser.add_argument("--reason", default="", help="why; kept for ever")
    parser.add_argument("--run", help="that run alone (default: all runs)")
    parser.add_argument("--who", default=getpass.getuser(), help="who says so (default: the user's name)")
    parser.add_argument("--url", help="the label store (default: RLHF_LABELS_URL, else data/labels/)")
    options = parser.parse_args(argv)
    if options.action == "pull":
        print(said(pull(options.reason, options.who, options.run, options.url)))
    elif options.action == "release":
        lifted = release(options.reason, options.who, options.run, options.url).data["lifts"]
        print(f"Released: {len(lifted)} pull{'s' * (len(lifted) != 1)} lifted by {options.who}.")
    else:
        with closing(LabelStore(options.url)) as store:
            events = history(store)
        print((standing(events, options.run) if options.run else CordState(open_pulls(events))).sentence())
    return 0
