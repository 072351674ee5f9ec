"""Short passages of bright and of dark stories, each with its mood: the world's stand-in for rated reviews."""

import math
import random

from rlhf_lib.corpora import tinyworld, tinyworld_stories

MOST_SENTENCES = 3  # about what a response of the style tasks holds


def labelled_passage(seed: int, index: int, split: str = "train") -> tuple[str, bool, float]:
    """One passage of 1 to 3 sentences, whether its story was bright (else dark), and the exact log-odds of that.

    Both moods are equally likely. The log-odds (nats) are those of a reader who is told which group of templates each
    sentence came from: no classifier of the text can know more. Most sentences are plain, so most passages leave doubt.
    """
    rng = random.Random(f"tinyworld/{seed}/{split}/mood/{index}")
    people, places = tinyworld._story_facts(rng)
    moods = tinyworld_stories.MOODS
    bright = rng.random() < 0.5
    shares = moods["bright" if bright else "dark"]
    groups = rng.choices(list(shares), weights=list(shares.values()), k=rng.randint(1, MOST_SENTENCES))
    templates = [rng.choice(tinyworld_stories.GROUPS[group]) for group in groups]
    text = " ".join(tinyworld._story_sentence(template, people, places, rng) for template in templates)
    return text, bright, sum(math.log(moods["bright"][group] / moods["dark"][group]) for group in groups)
