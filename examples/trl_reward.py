"""Score TRL's completions with a reward model of the kit. Needs transformers alone; copy it into your own project.

    from trl import GRPOTrainer
    from trl_reward import KitReward

    trainer = GRPOTrainer(model=..., reward_funcs=KitReward("runs/rm/reward", suffix="\\n\\nTL;DR:"), ...)

A reward model of the kit reads the query and the response without the task's own words around the query, and its score
has mean 0 and standard deviation 1 over samples of the reference model. Try it: `python examples/trl_reward.py FOLDER`.
"""

import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class KitReward:
    """A reward function as TRL calls it: lists of prompts and completions in, a list of scores out.

    prefix, suffix: the task's words around the query, which are taken off; truncate: the response ends with the first
    such character at or after token `truncate_after`, and one without gets `penalty` (None: no such rule).
    """

    __name__ = "kit_reward"  # under this name TRL logs it

    def __init__(self, folder, prefix="", suffix="", truncate=None, truncate_after=0, penalty=-1.0, device="cpu"):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder).eval().to(device)
        self.prefix, self.suffix, self.penalty = prefix, suffix, penalty
        self.truncate_after = truncate_after
        self.truncate = None if truncate is None else self.tokenizer.encode(truncate, add_special_tokens=False)[0]

    @torch.no_grad()
    def __call__(self, prompts, completions, **_):
        return [self.score(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]

    def score(self, prompt, completion):
        """The score of one completion; one at a time, so that no padding can be mistaken for text."""
        query = prompt.removeprefix(self.prefix).removesuffix(self.suffix)
        response = self.tokenizer.encode(completion, add_special_tokens=False)
        if self.truncate is not None:
            ends = [i for i, t in enumerate(response) if t == self.truncate and i >= self.truncate_after]
            if not ends:
                return self.penalty
            response = response[: ends[0] + 1]
        ids = torch.tensor(
            [self.tokenizer.encode(query, add_special_tokens=False) + response], device=self.model.device
        )
        states = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
        return float(self.model.score(states)) + getattr(self.model.config, "reward_bias", 0.0)


if __name__ == "__main__":
    reward = KitReward(sys.argv[1])
    print(reward(prompts=["It was a fine day."] * 2, completions=[" She smiled.", " He fell into the mud."]))
