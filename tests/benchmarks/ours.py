"""The kit's side of the benchmark: the very functions that train_ppo and fit_reward call, one at a time."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel
from work import COMPARISONS, EPOCHS, FOUR, MICRO, MODELS, QUERY, RESPONSE, TEMPERATURE, VOCAB, serve, timed, token_rows

from rlhf_lib.picks import Comparisons
from rlhf_lib.policy import Policy, load_lm
from rlhf_lib.ppo import SAMPLED, make_rollout, ppo_update
from rlhf_lib.profiles import PPOConfig, RewardConfig, TextConfig
from rlhf_lib.reward import RewardModel, _reward_step
from rlhf_lib.tasks import Queries, QueryStream, Task
from rlhf_lib.training import TrainState, make_adam, settings

BASE = Path(__file__).parents[2] / "data" / "base"


class Bench:
    """One model size with everything that an update needs."""

    def __init__(self, folder: Path, size: str):
        lm, tokenizer = load_lm(model_folder(folder, size))
        self.policy = Policy(lm)
        self.reference = self.policy.frozen_copy()
        self.reward = RewardModel(copy.deepcopy(self.reference.lm.base_model), torch.Generator().manual_seed(1))
        self.tokenizer, self.generator = tokenizer, torch.Generator().manual_seed(1)
        self.adam = make_adam(self.policy.parameters(), 1e-5)
        self.reward_adam = make_adam(self.reward.requires_grad_(True).parameters(), 1e-5)

    def stream(self, batch: int, length: int) -> QueryStream:
        """Queries of QUERY tokens without pads, in their own order."""
        text = TextConfig(QUERY, length, TEMPERATURE, truncate_after=2 * length // 3, truncate_token=".")
        ids = torch.tensor(token_rows(batch, QUERY, 1))
        queries = Queries(ids, torch.ones_like(ids, dtype=torch.bool), list(range(batch)))
        return QueryStream(queries, Task("sentiment", text, self.tokenizer))

    def phases(self, batch: int, length: int, micro: int = MICRO) -> dict[str, float]:
        """Seconds of one PPO update of `batch` episodes, and of its phases; the reward model scores them."""
        cfg = PPOConfig(batch, batch, 1e-5, 0.1, epochs=EPOCHS, micro_batch=micro)
        stream, generator, seconds = self.stream(batch, length), self.generator, {}
        state = TrainState(
            self.policy, self.adam, generator, settings(cfg), total=1, extra={"kl_coef": 0.1, "adam_steps": 0}
        )

        def score(*texts: torch.Tensor) -> torch.Tensor:
            scores = []
            seconds["score"] = timed(lambda: scores.append(self.reward.score(*texts)))
            return scores[0]

        made = []
        rollout = timed(lambda: made.append(make_rollout(self.policy, self.reference, score, stream, cfg, generator)))
        seconds["sample"] = made[0][1]
        seconds["reference"] = rollout - seconds["sample"] - seconds["score"]
        seconds["epochs"] = timed(lambda: ppo_update(self.policy, made[0][0], state, cfg, TEMPERATURE, None))
        return seconds | {"all": rollout + seconds["epochs"]}

    def sample(self, batch: int, length: int, each: int = 1) -> dict[str, float]:
        """`batch` responses, `each` to a query."""
        ids = torch.tensor(token_rows(batch // each, QUERY, 1))
        mask = torch.ones_like(ids, dtype=torch.bool)
        work = lambda: self.policy.sample(ids, mask, length, TEMPERATURE, self.generator, SAMPLED * MICRO, each)  # noqa: E731
        return {"all": timed(work)}

    def four(self, batch: int, length: int) -> dict[str, float]:
        """As `collect.py` samples for labelers."""
        return self.sample(batch, length, FOUR)

    def score(self, batch: int, length: int) -> dict[str, float]:
        """Log-probabilities of given responses, without gradients."""
        return {"all": timed(lambda: self._logprobs(batch, length))}

    def _logprobs(self, batch: int, length: int) -> torch.Tensor:
        ids, responses = torch.tensor(token_rows(batch, QUERY, 1)), torch.tensor(token_rows(batch, length, 2))
        mask = torch.ones_like(ids, dtype=torch.bool)
        return self.reference.logprobs(ids, mask, responses, TEMPERATURE, MICRO)

    def logprobs(self) -> list[list[float]]:
        """Of the unchanged weights, to be held against the peer's."""
        return self._logprobs(8, RESPONSE).tolist()

    def fit(self) -> dict[str, float]:
        """One gradient step of the reward model on COMPARISONS four-way labels of full length."""
        n, cfg = COMPARISONS, RewardConfig(COMPARISONS, COMPARISONS, 1e-5, micro_batch=COMPARISONS)
        query, responses = torch.tensor(token_rows(n, QUERY, 1)), torch.tensor(token_rows(4 * n, RESPONSE, 2))
        responses = responses.view(n, 4, RESPONSE)
        ones = [torch.ones_like(t, dtype=torch.bool) for t in (query, responses)]
        data = Comparisons(query, ones[0], responses, ones[1], torch.arange(n) % 4)
        state = TrainState(self.reward, self.reward_adam, self.generator, settings(cfg), total=1)
        return {"all": timed(lambda: _reward_step(state, data, cfg, None))}


def model_folder(folder: Path, size: str) -> Path:
    """The shipped base for its own size; others with random weights, made once, for both sides."""
    layers, width, heads = MODELS[size]
    target = folder / size
    if not target.is_dir():
        lm, tokenizer = load_lm(BASE)
        if (lm.config.n_layer, lm.config.n_embd, lm.config.vocab_size) != (layers, width, VOCAB):
            torch.manual_seed(0)
            off = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
            lm = GPT2LMHeadModel(GPT2Config(
                vocab_size=VOCAB, n_positions=256, n_embd=width, n_layer=layers, n_head=heads, bos_token_id=0,
                eos_token_id=0, pad_token_id=0, activation_function="gelu_pytorch_tanh", **off,
            ))  # fmt: skip
        Policy(lm).save(target, tokenizer)
    return target


def peak_mebibytes() -> float:
    """The most memory this process ever had."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


def main(folder: Path) -> None:
    benches: dict[str, Bench] = {}

    def ask(what: str):
        def work(size: str = "4x128", **arguments):
            if size not in benches:
                benches.clear()  # one model at a time
                benches[size] = Bench(folder, size)
            return getattr(benches[size], what)(**arguments)

        return work

    serve({what: ask(what) for what in ("phases", "sample", "four", "score", "logprobs", "fit")}
          | {"peak": peak_mebibytes, "versions": lambda: {"torch": torch.__version__}})  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
