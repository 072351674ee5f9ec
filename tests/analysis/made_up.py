"""Made-up frames for the figure tests: numbers of no run, shaped as each figure wants them."""

import numpy as np
import pandas as pd

MODELS = ["zero-shot", "supervised", "supervised + fine-tuned", "fine-tuned"]
TASKS = ["cnndm", "tldr"]


def with_interval(data, value, half=0.03):
    return data.assign(low=data[value] - half, high=data[value] + half)


def learning():
    steps = np.arange(1, 200)
    train = pd.DataFrame({"step": steps, "loss": 3 + 2 * np.exp(-steps / 30), "split": "train"})
    held = pd.DataFrame({"step": steps[::20], "loss": 3.1 + 2 * np.exp(-steps[::20] / 30), "split": "held-out"})
    return pd.concat([train, held])


def ppo():
    episodes = np.arange(0, 20000, 200)
    wave = np.sin(episodes / 900)
    return pd.DataFrame(
        {
            "episodes": episodes,
            "objective/score": episodes / 8000 + 0.1 * wave,
            "objective/kl": 6 * (1 - np.exp(-episodes / 3000)) + 0.4 * wave,
            "objective/kl_coef": 0.15 + 0.02 * wave,
            "objective/entropy": 50 - episodes / 2000,
            "objective/penalised": 0.4 * np.exp(-episodes / 2000),
        }
    )


def comparison():
    frame = pd.DataFrame({"response": range(4), "score": [1.2, 0.3, -0.4, 0.8], "p": [0.44, 0.18, 0.09, 0.29]})
    return frame.assign(push=[-0.44, -0.18, -0.09, 0.71])


def said_twice(half=6):
    position = np.arange(1, 2 * half)
    return pd.DataFrame({"position": position, "nats": np.where(position <= half, 8.0, 0.2)})


def accuracy_by_labels():
    rows = [
        (task, n, 0.3 + 0.05 * i + shift)
        for shift, task in enumerate(["sentiment"])
        for i, n in enumerate([50, 200, 1000, 5000])
    ]
    return with_interval(pd.DataFrame(rows, columns=["task", "labels", "accuracy"]), "accuracy")


def preference():
    counts = [0, 200, 500, 1000, 2500, 5000, 10000, 20000]
    rows = []
    for task, base in (("sentiment", 0.5), ("descriptiveness", 0.55)):
        for i, n in enumerate(counts):
            rows += [(task, n, base + 0.05 * i, "recorded"), (task, n, base + 0.04 * i + 0.02, "published")]
        rows.append((task, 1000, base + 0.2, "this run"))
    data = with_interval(pd.DataFrame(rows, columns=["task", "labels", "preference", "run"]), "preference")
    data.loc[data["run"] == "published", ["low", "high"]] = np.nan
    return data


def calibration():
    predicted = np.linspace(0.05, 0.95, 10)
    return with_interval(
        pd.DataFrame({"predicted": predicted, "observed": predicted**1.3, "count": np.linspace(400, 40, 10)}),
        "observed",
    )


def frontier():
    kl = np.array([0.5, 1, 2, 4, 6, 8, 12])
    rows = [
        pd.DataFrame({"kl": kl, "reward": scale * np.sqrt(kl), "run": name, "panel": panel})
        for name, scale in (("small", 0.7), ("large", 1.1))
        for panel in ("this run", "published (774M)")
    ]
    panels = ("this run", "published (774M)")
    optimum = [pd.DataFrame({"kl": kl, "reward": 1.5 * np.sqrt(kl), "panel": panel}) for panel in panels]
    return pd.concat(rows), pd.concat(optimum)


def flip():
    episodes = np.arange(0, 8000, 200)
    rows = []
    for run, sign in (("right sign", 1), ("flipped sign", -1)):
        for metric, size in (("true score", 1.0), ("entropy (nats a response)", 3.0)):
            rows.append(
                pd.DataFrame(
                    {"episodes": episodes, "metric": metric, "run": run, "value": sign * size * episodes / 4000}
                )
            )
    pulls = pd.DataFrame({"episodes": [1500, 2600], "reason": ["score falls", "a labeler"]})
    return pd.concat(rows), pulls


def novelty():
    units = ["1-gram", "2-gram", "3-gram", "4-gram", "sentence"]
    rows = [
        (task, model, unit, min(0.1 + 0.15 * j + 0.05 * (4 - i), 1.0), 0.9 if unit == "sentence" else np.nan)
        for task in TASKS
        for i, model in enumerate([*MODELS, "reference"])
        for j, unit in enumerate(units)
    ]
    return with_interval(pd.DataFrame(rows, columns=["task", "model", "unit", "novelty", "published"]), "novelty")


def copies():
    random = np.random.default_rng(0)
    rows = []
    for task, longest in (("cnndm", 480), ("tldr", 260)):
        for model in MODELS:
            for _ in range(120):
                length = int(random.integers(longest // 3, longest))
                start = 0 if model == "fine-tuned" and random.random() < 0.7 else int(random.integers(0, length - 40))
                taken = list(range(start, start + 30)) if "fine" in model else list(range(start, start + 30, 7))
                rows.append((task, model, length, taken))
    return pd.DataFrame(rows, columns=["task", "model", "source_length", "positions"])


def density():
    x = (np.arange(20) + 0.5) / 20
    return pd.concat(
        pd.DataFrame({"task": t, "model": m, "position": x, "density": 1 + i * np.exp(-6 * x)})
        for t in TASKS
        for i, m in enumerate(MODELS)
    )


def copy_start():
    rows = [
        (t, m, inputs, 0.2 * i / (1 + 20 * (inputs == "with preamble")), 0.3 if m == "fine-tuned" else np.nan)
        for t in TASKS
        for i, m in enumerate(MODELS)
        for inputs in ("all", "without preamble", "with preamble")
    ]
    return with_interval(pd.DataFrame(rows, columns=["task", "model", "inputs", "share", "published"]), "share")


def copied_sentences():
    places = [(place, k) for k, place in enumerate(["1", "2", "3", "4", "5", "later", "none"])]
    rows = [(t, m, place, (k + i) / 40, 100) for t in TASKS for i, m in enumerate(MODELS) for place, k in places]
    return pd.DataFrame(rows, columns=["task", "model", "place", "share", "n"])


def openings():
    places = [(k, 0.1 * k, 2.0 - 0.1 * k, 40) for k in range(1, 6)]
    rows = [(t, m, *place) for t in TASKS for m in ("zero-shot", "fine-tuned") for place in places]
    return with_interval(pd.DataFrame(rows, columns=["task", "model", "place", "share", "points", "n"]), "points")


def preferences():
    names = ["reference", "lead-3", *MODELS]
    return pd.DataFrame(
        [
            (a, b, 0.5 + 0.08 * (i - j), labeler)
            for labeler in ("hurried", "careful")
            for i, a in enumerate(names)
            for j, b in enumerate(names)
            if a != b
        ],
        columns=["a", "b", "share", "labeler"],
    )


def rouge():
    rows = [
        (t, m, metric, 40 - 3 * i - 10 * j)
        for t in TASKS
        for i, m in enumerate(["lead-3", *MODELS])
        for j, metric in enumerate(["ROUGE-1", "ROUGE-2", "ROUGE-L"])
    ]
    return with_interval(pd.DataFrame(rows, columns=["task", "model", "metric", "score"]), "score", 0.8)


def sample_rows():
    return pd.DataFrame(
        [
            {
                "query_id": q,
                "query": f"A <b>bold</b> prompt {q}. " * 60,
                "reference": "A fair & short reference.",
                "model": m,
                "response": f"{m} says <script>alert(1)</script>\nand more.",
            }
            for q in ("a", "b")
            for m in MODELS
        ]
    )


def accuracy():
    rows = [
        (t, m, judge, 0.2 + 0.2 * i, 0.9 if judge == "people" and m == "fine-tuned" else np.nan)
        for t in TASKS
        for i, m in enumerate(MODELS)
        for judge in ("world's fact checker", "people")
    ]
    return with_interval(pd.DataFrame(rows, columns=["task", "model", "judge", "accurate", "published"]), "accurate")


def rouge_and_preference():
    rows = [
        (m, 20 + 5 * i, 0.9 - 0.1 * i if labeler == "hurried" else 0.3 + 0.1 * i, labeler)
        for labeler in ("hurried", "careful")
        for i, m in enumerate(["lead-3", *MODELS])
    ]
    return with_interval(pd.DataFrame(rows, columns=["model", "rouge", "share", "labeler"]), "share")


def strategies():
    rows = [
        (n, run, metric, scale * (0.5 + 0.1 * i + 0.02 * j))
        for metric, scale in (("preferred to zero-shot (share)", 1), ("mean ROUGE (F1 × 100)", 30))
        for j, run in enumerate(("offline", "batched", "online"))
        for i, n in enumerate((500, 1000, 2000, 4000))
    ]
    return with_interval(pd.DataFrame(rows, columns=["labels", "run", "metric", "value"]), "value", 0.02)


def agreement_by_kind():
    rows = [("best_of_4", 0.46, 0.25), ("description", 0.7, 0.4), ("correction", 0.6, 0.2)]
    data = pd.DataFrame(rows, columns=["kind", "agreement", "chance"])
    return with_interval(
        data.assign(beyond_chance=(data["agreement"] - data["chance"]) / (1 - data["chance"])), "agreement"
    )


def likelihood():
    rows = [(c, x, y, r) for c, x, y in (("base", 0, -1.4), ("control", 2, -1.5), ("both_flipped", -6, -1.6))
            for r in ("this run", "recorded")]  # fmt: skip
    return pd.DataFrame(rows, columns=["condition", "score", "loglik", "run"]), {"control": "(+, −)"}


def effects():
    rows = [(step, kind, seed, sign * 0.05 * step) for kind, sign in (("fixed", -1), ("sign_lost", 1))
            for seed in (1, 2) for step in range(1, 6)]  # fmt: skip
    return pd.DataFrame(rows, columns=["step", "kind", "seed", "value"])


def casebook():
    rows = [(case, "a number", step, step * (kind == "sick"), 2.5, kind, seed) for case in ("one", "two")
            for kind in ("healthy", "sick") for seed in (1, 2) for step in range(1, 6)]  # fmt: skip
    return pd.DataFrame(rows, columns=["case", "label", "step", "value", "bound", "kind", "seed"])


def collapse():
    rows = [(step, factor * step - 1, panel, run, seed) for panel in ("KL (nats)", "β") for run, factor in
            (("as it was", 9), ("changed", 1)) for seed in (1, 2) for step in range(1, 6)]  # fmt: skip
    return pd.DataFrame(rows, columns=["step", "value", "panel", "run", "seed"])
