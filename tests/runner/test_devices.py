"""What the monitors ask lies where the policy lies, without a GPU: torch's device "meta" refuses to be mixed with the
CPU as a GPU does."""

import pytest

torch = pytest.importorskip("torch")

from rlhf_lib import probe_measures  # noqa: E402
from rlhf_lib.probe import Probe  # noqa: E402
from rlhf_lib.sampling import Samples  # noqa: E402
from tests.runner import small_ppo  # noqa: E402

META = torch.device("meta")


class Elsewhere:
    """A policy on another device than the probe's pairs: it knows no tokens, only where tensors are."""

    device = META

    def sample(self, ids, mask, length, temperature, generator, micro_batch):
        """As `Policy.sample`."""
        assert ids.device == mask.device == META
        drawn = torch.zeros(len(ids), length, dtype=torch.long, device=META)
        return Samples(drawn, drawn.float(), drawn.float())


def test_the_bases_samples_are_scored_on_its_own_device(monkeypatch):
    task = small_ppo.task()
    ids = torch.ones(3, 5, dtype=torch.long)
    probe = Probe(*[ids, ids.bool()] * 3)  # on the CPU, as it is made
    monkeypatch.setattr(torch, "Generator", lambda device: torch._C.Generator("cpu"))  # "meta" has none
    asked = []

    def score(*given):
        asked.append(torch.cat([given[0], given[2]], 1).shape)  # as a reward model does: an error where they are apart
        assert {part.device for part in given} == {META}
        return torch.arange(float(len(given[0])))

    measure = probe_measures.asked_score_drop(probe, Elsewhere(), task, score, lambda state: torch.ones(8).double())
    assert measure([{}], None) is None  # one update of three
    assert asked == [(3 * probe_measures.BASE_SAMPLES, 5 + task.text.response_length)]
