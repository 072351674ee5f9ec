"""A labeler as a process of its own, for tests of many at once and of sudden ends. Run as a script, not as a test.

    labeling_worker.py quota URL LABELER N       label until N answers stand, then say what was acknowledged
    labeling_worker.py lives URL LABELER         for each line on stdin, fork a labeler that works until it is killed

Acknowledged steps go to stdout, a line each, written only after the step returned:
"label <event> <item> <best>", "undo <item>", "refused <item>".
"""

import os
import random
import sys
import time

from rlhf_lib.errors import KitError
from rlhf_lib.labels import LabelSession, LabelStore

LEASE_SECONDS = 2.0


def say(*words: object) -> None:
    """One write a line, so that a killed process leaves no half of one (a pipe takes 4096 bytes at once)."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def answer(session: LabelSession, item, pick: int) -> bool:
    try:
        event = session.answer(pick)
    except KitError as error:
        assert "another labeler has it" in str(error), error
        say("refused", item.id)
        return False
    say("label", event, item.id, item.order[pick])
    return True


def quota(url: str, labeler: str, n: int) -> None:
    """N answers that stand; some are undone and given again, two are slept over until their lease is out."""
    rng = random.Random(labeler)
    session = LabelSession(LabelStore(url), labeler, "q", lease_seconds=LEASE_SECONDS)
    slow = {n // 3, 2 * n // 3}
    stand: list[str] = []  # ids of the items whose answers stand, the last one last
    while len(stand) < n:
        item = session.current()
        assert item is not None, "the queue ran dry"
        if len(stand) in slow:
            slow.remove(len(stand))
            time.sleep(1.1 * LEASE_SECONDS)
        if answer(session, item, rng.randrange(4)):
            stand.append(item.id)
        if rng.random() < 0.02 and stand:
            assert session.undo()
            say("undo", stand.pop())  # its item comes back next, unless this process is so slow that the lease runs out


def live(url: str, labeler: str, seed: int) -> None:
    """Label, and sometimes undo, until killed."""
    rng = random.Random(seed)
    session = LabelSession(LabelStore(url), labeler, "q")
    say("open")
    while (item := session.current()) is not None:
        pick = rng.randrange(4)
        say("label", session.answer(pick), item.id, item.order[pick])
        if rng.random() < 0.1:
            session.undo()
            say("undo", item.id)


def lives(url: str, labeler: str) -> None:
    """Forked from a process that has everything imported and no database open, so that a life starts at once."""
    import psycopg  # noqa: F401 - the other thing that takes long to import

    for seed, _ in enumerate(sys.stdin):
        pid = os.fork()
        if pid == 0:
            live(url, labeler, seed)
            os._exit(0)
        say("born", pid)
        _, status = os.waitpid(pid, 0)
        say("ended", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    quota(*arguments[:2], int(arguments[2])) if what == "quota" else lives(*arguments)
