"""The peers' side: TRL's PPOTrainer and RewardTrainer and transformers' generate, in an environment of their own.

Nothing here imports the kit. Where a peer leaves a choice, it gets what makes it faster: its responses are sampled by
one batched `generate` instead of TRL's lists, without top-k or top-p.
"""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path

import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast
from trl import AutoModelForCausalLMWithValueHead, PPOConfig, PPOTrainer, RewardConfig, RewardTrainer
from work import COMPARISONS, EPOCHS, FOUR, MICRO, QUERY, RESPONSE, TEMPERATURE, serve, timed, token_rows

warnings.filterwarnings("ignore")
FIT_STEPS = 4  # gradient steps in one call of RewardTrainer.train


class Rewards(RewardTrainer):
    """TRL 0.11.4's, which does not know an argument that transformers 4.46 hands to every loss."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return super().compute_loss(model, inputs, return_outputs)


class Peers:
    """One model size with everything that an update needs."""

    def __init__(self, folder: Path, size: str):
        self.folder, self.out = folder / size, folder / "trl"
        file = str(self.folder / "tokenizer.json")
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=file, eos_token="<|endoftext|>")
        self.tokenizer.pad_token = self.tokenizer.eos_token
        self.lm = AutoModelForCausalLM.from_pretrained(self.folder, torch_dtype=torch.float32).eval()
        self.trainers: dict[tuple[int, int], PPOTrainer] = {}

    def classifier(self):
        return AutoModelForSequenceClassification.from_pretrained(
            self.folder, num_labels=1, pad_token_id=0, torch_dtype=torch.float32
        )

    def trainer(self, batch: int, micro: int) -> PPOTrainer:
        """TRL with `micro` episodes a forward pass, and one gradient step an epoch as the kit."""
        if (batch, micro) not in self.trainers:
            config = PPOConfig(
                batch_size=batch, mini_batch_size=micro, gradient_accumulation_steps=batch // micro,
                ppo_epochs=EPOCHS, learning_rate=1e-5,
            )  # fmt: skip
            policy = AutoModelForCausalLMWithValueHead.from_pretrained(copy.deepcopy(self.lm))
            reference = AutoModelForCausalLMWithValueHead.from_pretrained(copy.deepcopy(self.lm))
            self.trainers[batch, micro] = PPOTrainer(config, policy, reference, self.tokenizer)
            self.reward = self.classifier().eval()
        return self.trainers[batch, micro]

    def generate(self, lm, batch: int, length: int, each: int = 1) -> torch.Tensor:
        """Sampled responses, [batch, length], `each` to a query."""
        ids = torch.tensor(token_rows(batch // each, QUERY, 1))
        with torch.no_grad():
            out = lm.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=TEMPERATURE, top_k=0, top_p=1.0,
                max_new_tokens=length, min_new_tokens=length, pad_token_id=0, eos_token_id=None,
                num_return_sequences=each,
            )  # fmt: skip
        return out[:, QUERY:]

    def phases(self, batch: int, length: int, micro: int = MICRO) -> dict[str, float]:
        """Seconds of one PPO update of `batch` episodes: sampling, scoring by a reward model, and PPOTrainer.step."""
        trainer, seconds, made = self.trainer(batch, micro), {}, []
        lm = trainer.model.pretrained_model
        seconds["sample"] = timed(lambda: made.append(self.generate(lm, batch, length)))
        queries = torch.tensor(token_rows(batch, QUERY, 1))

        @torch.no_grad()
        def score() -> None:
            made.append(self.reward(torch.cat([queries, made[0]], 1)).logits.squeeze(1))

        seconds["score"] = timed(score)
        responses, scores = made
        seconds["step"] = timed(lambda: trainer.step(list(queries), list(responses), list(scores)))
        return seconds | {"all": sum(seconds.values())}

    def sample(self, batch: int, length: int) -> dict[str, float]:
        return {"all": timed(lambda: self.generate(self.lm, batch, length))}

    def four(self, batch: int, length: int) -> dict[str, float]:
        return {"all": timed(lambda: self.generate(self.lm, batch, length, FOUR))}

    @torch.no_grad()
    def _logprobs(self, batch: int, length: int) -> torch.Tensor:
        """As transformers' users write it: all logits, then those of the response."""
        ids = torch.tensor(token_rows(batch, QUERY, 1))
        responses, parts = torch.tensor(token_rows(batch, length, 2)), []
        for query, response in zip(ids.split(MICRO), responses.split(MICRO), strict=True):
            logits = self.lm(torch.cat([query, response], 1)).logits[:, QUERY - 1 : -1] / TEMPERATURE
            parts.append(logits.log_softmax(-1).gather(2, response[:, :, None]).squeeze(2))
        return torch.cat(parts)

    def score(self, batch: int, length: int) -> dict[str, float]:
        return {"all": timed(lambda: self._logprobs(batch, length))}

    def logprobs(self) -> list[list[float]]:
        return self._logprobs(8, RESPONSE).tolist()

    def fit(self) -> dict[str, float]:
        """Seconds of one step of RewardTrainer on as many sequences as COMPARISONS four-way labels have, in pairs."""
        pairs = 2 * COMPARISONS
        rows = token_rows(2 * pairs * FIT_STEPS, QUERY + RESPONSE, 3)
        ones = [[1] * (QUERY + RESPONSE)] * (pairs * FIT_STEPS)
        data = Dataset.from_dict({
            "input_ids_chosen": rows[::2], "attention_mask_chosen": ones,
            "input_ids_rejected": rows[1::2], "attention_mask_rejected": ones,
        })  # fmt: skip
        args = RewardConfig(
            output_dir=str(self.out), max_length=QUERY + RESPONSE, per_device_train_batch_size=pairs,
            num_train_epochs=1, learning_rate=1e-5, report_to=[], save_strategy="no", logging_strategy="no",
            disable_tqdm=True, remove_unused_columns=False, use_cpu=True,
        )  # fmt: skip
        trainer = Rewards(model=self.classifier(), args=args, tokenizer=self.tokenizer, train_dataset=data)
        return {"all": trainer.train().metrics["train_runtime"] / FIT_STEPS}


def main(folder: Path) -> None:
    opened: dict[str, Peers] = {}

    def ask(what: str):
        def work(size: str = "4x128", **arguments):
            if size not in opened:
                opened.clear()
                opened[size] = Peers(folder, size)
            return getattr(opened[size], what)(**arguments)

        return work

    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__}
    serve({what: ask(what) for what in ("phases", "sample", "four", "score", "logprobs", "fit")}
          | {"versions": lambda: versions})  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
