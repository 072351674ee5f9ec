"""Tensors of episodes and scores as plain rows, a row a token: what pictures and widgets show.

Nothing is drawn here, and nothing downstream of here needs torch.
"""

from __future__ import annotations

import pandas as pd
import torch

from rlhf_lib import ppo
from rlhf_lib.errors import KitError
from rlhf_lib.profiles import PPOConfig
from rlhf_lib.reward import RewardModel
from rlhf_lib.tasks import Task


def token_texts(task: Task, ids) -> list[str]:
    """The text of each token of one row of ids; joined, they are the text.

    A character that takes several tokens stands at the last of them, and the ones before are empty.
    """
    ids, pieces, done = list(map(int, ids)), [], 0
    for end in range(1, len(ids) + 1):
        text = task.decode(ids[:end])
        # a decoder writes � for half a character; what is known for sure ends before it
        whole = max(done, len(text if end == len(ids) else text.rstrip("\ufffd")))
        pieces.append(text[done:whole])
        done = whole
    return pieces


def token_rows(rollout: ppo.Rollout, task: Task, kl_coef: float, cfg: PPOConfig) -> pd.DataFrame:
    """Every response token of a rollout (B episodes of R tokens), as PPO sees it: B * R rows.

    Columns: `episode, position` (from 0), `token, context` (texts), `logprob, ref_logprob, kl` (nats, of the sampled
    token), `reward` (points: -kl_coef * kl, and the score at the last token), `reward_scaled` (what PPO makes of it in
    this batch), `value, advantage` (in scaled points), `push` (the whitened advantage, which the policy loss takes),
    `read` (whether the reward model read the token: it stands before the cut), `score, passes` (of the episode).

    The batch is taken as one minibatch, so that scaling and whitening are over all of its episodes.
    """
    rewards = rollout.rewards(kl_coef)  # [B, R]
    scaled = ppo.whiten(rewards, shift_mean=False) if cfg.whiten_rewards else rewards
    push, returns = ppo.advantages_and_returns(rollout, kl_coef, cfg)
    numbers = {
        "logprob": rollout.logprobs, "ref_logprob": rollout.ref_logprobs, "kl": rollout.kl, "reward": rewards,
        "reward_scaled": scaled, "value": rollout.values, "advantage": returns - rollout.values, "push": push,
        "read": task.truncate(rollout.responses)[1],
    }  # fmt: skip
    count, length = rollout.responses.shape
    columns = {name: tensor.detach().cpu().flatten().numpy() for name, tensor in numbers.items()}
    each = {
        "episode": range(count),
        "context": [task.decode(*row) for row in zip(rollout.query_ids.cpu(), rollout.query_mask.cpu(), strict=True)],
        "score": rollout.scores.tolist(),
        "passes": rollout.passes.tolist(),
    }
    repeated = {name: [value for value in values for _ in range(length)] for name, values in each.items()}
    texts = [text for row in rollout.responses.cpu() for text in token_texts(task, row)]
    return pd.DataFrame(repeated | {"position": list(range(length)) * count, "token": texts} | columns)


@torch.no_grad()
def prefix_scores(model: RewardModel, task: Task, context: str, response: str) -> pd.DataFrame:
    """What a reward model gives to a text that is read token by token: 1 + R rows of `position, token, score, added`.

    `score` (points) of row k is the model's score of the context and the first k tokens of the response, as if the
    text ended there; row 0 is the context alone. `added` is the difference to the row before, and in row 0 the score
    itself, so that all of `added` sum to the last score, which is the text's. No cut, no penalty.
    The model reads from left to right, so one pass gives all of them.

    Raises KitError if a text is empty, or both together are longer than the model can read. Of the context, the last
    `query_length` tokens count, as in the labels; no label had a response over the task's `response_length`.
    """
    asked, answer = task.encode(context)[-task.text.query_length :], task.encode(response)
    if not asked or not answer:
        raise KitError("The reward model scores a response to a context; write at least one word in both.")
    room = getattr(model.body.config, "max_position_embeddings", None)
    if room is not None and len(asked) + len(answer) > room:
        raise KitError(
            f"Context and response have {len(asked) + len(answer)} tokens, and this reward model reads {room} at most; "
            "shorten the response."
        )
    ids = torch.tensor([asked + answer], device=model.device)  # [1, Q + R]
    ends = torch.arange(len(asked) - 1, ids.shape[1], device=model.device)[None]  # [1, 1 + R]
    rows = pd.DataFrame({"token": ["", *token_texts(task, answer)], "score": model.read(ids, ends)[0].tolist()})
    rows.insert(0, "position", range(len(rows)))
    return rows.assign(added=rows["score"].diff().fillna(rows["score"].iloc[0]))
