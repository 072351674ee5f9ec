"""States read at a few columns against whole transformers passes; the activation against torch's."""

import copy

import pytest
import torch
from core_models import VOCAB, tiny_lm
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from rlhf_lib import cpu
from rlhf_lib.cpu import TanhGELU
from rlhf_lib.policy import prepare
from rlhf_lib.states import gpt2_states, is_plain_gpt2, pads_to_the_right, read_states


def inputs():
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(0, VOCAB, (5, 12), generator=generator)
    return ids, torch.tensor([[3, 11], [0, 7], [10, 11], [5, 2], [11, 1]])  # any columns, in any order


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_states_and_gradients_at_some_columns_are_those_of_the_whole_pass(kind):
    body = prepare(tiny_lm(kind)).base_model
    ids, wanted = inputs()
    whole = body(input_ids=ids).last_hidden_state[torch.arange(5)[:, None], wanted]  # [5, 2, width]
    weight = torch.randn(whole.shape, generator=torch.Generator().manual_seed(3))
    found = []
    for states in (whole, read_states(body, ids, wanted)):
        body.zero_grad()
        (states * weight).sum().backward()
        found.append((states.detach(), {k: p.grad.clone() for k, p in body.named_parameters() if p.grad is not None}))
    (expected, gradients), (states, lean) = found
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=0)
    assert gradients.keys() == lean.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(lean[name], gradient, atol=1e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_given_positions_and_sight_are_what_the_columns_see(kind):
    """Each column may see a random choice of earlier ones: changing a token that nothing sees changes no state."""
    body = tiny_lm(kind).base_model
    ids, wanted = inputs()
    positions = torch.arange(12).expand(5, 12) // 2 + 1
    seen = torch.ones(5, 12, 12, dtype=torch.bool).tril()
    seen[:, :, 4] = False
    seen[:, 4, 4] = True
    wanted = wanted.where(wanted != 4, 5)
    with torch.no_grad():
        states = read_states(body, ids, wanted, positions, seen)
        plain = body(input_ids=ids, attention_mask=seen[:, None], position_ids=positions).last_hidden_state
        changed = ids.clone()
        changed[:, 4] = (changed[:, 4] + 1) % VOCAB
        again = read_states(body, changed, wanted, positions, seen)
        without = read_states(body, changed, wanted, positions)
    torch.testing.assert_close(states, plain[torch.arange(5)[:, None], wanted], atol=1e-5, rtol=0)
    torch.testing.assert_close(again, states, atol=1e-5, rtol=0)
    assert (without - states).abs().max() > 1e-2  # the mask is what hides it


def test_keys_and_values_are_those_of_transformers():
    body = tiny_lm().base_model
    ids, wanted = inputs()
    cache = []
    with torch.no_grad():
        gpt2_states(body, ids, wanted, keep=lambda k, v: cache.append((k, v)))
        layers = body(input_ids=ids, use_cache=True).past_key_values.layers
    assert len(cache) == len(layers) == 2
    for (keys, values), layer in zip(cache, layers, strict=True):
        torch.testing.assert_close(keys, layer.keys, atol=1e-5, rtol=0)
        torch.testing.assert_close(values, layer.values, atol=1e-5, rtol=0)


def test_variations_of_gpt2_go_through_transformers():
    config = tiny_lm().config
    assert is_plain_gpt2(config)
    for name in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention"):
        changed = type(config)(**{**config.to_dict(), name: True})
        assert not is_plain_gpt2(changed)
    assert not is_plain_gpt2(tiny_lm("llama").config)


def test_pads_go_to_the_right_and_the_order_of_real_tokens_stays():
    ids = torch.tensor([[9, 9, 1, 2, 3, 9], [9, 4, 5, 6, 9, 9], [9, 9, 9, 9, 9, 7]])
    packed, lengths = pads_to_the_right(ids, ids != 9)
    assert packed.tolist() == [[1, 2, 3], [4, 5, 6], [7, 9, 9]]
    assert lengths.tolist() == [3, 3, 1]


def test_activation_and_its_gradient_are_torchs():
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e4, 1e4, 0.0])])
    mine, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    weight = torch.linspace(-2, 2, len(x))
    (TanhGELU()(mine) * weight).sum().backward()
    (F.gelu(theirs, approximate="tanh") * weight).sum().backward()
    torch.testing.assert_close(TanhGELU()(x).double(), F.gelu(x.double(), approximate="tanh"), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(mine.grad.double(), theirs.grad, atol=2e-6, rtol=1e-5)
    half = x[:100].bfloat16()
    assert torch.equal(TanhGELU()(half), F.gelu(half, approximate="tanh"))


@pytest.mark.parametrize("layout", ["matrix", "transposed", "slice"])
def test_linear_layer_and_its_gradients_are_torchs(layout):
    generator = torch.Generator().manual_seed(4)
    x, bias = torch.randn(3, 5, 8, generator=generator), torch.randn(6, generator=generator)
    stored = {"matrix": (8, 6), "transposed": (6, 8), "slice": (8, 18)}[layout]
    weight = torch.randn(stored, generator=generator)
    view = {"matrix": lambda w: w, "transposed": lambda w: w.t(), "slice": lambda w: w[:, 6:12]}[layout]
    upstream = torch.randn(3, 5, 6, generator=generator)
    found = []
    for product in (cpu.linear, lambda x, m, b: x @ m + b):
        leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
        y = product(leaves[0], view(leaves[1]), leaves[2])
        found.append([y.detach(), *torch.autograd.grad((y * upstream).sum(), leaves)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cpu.linear(x, view(weight), None), x @ view(weight), atol=1e-5, rtol=1e-5)


def test_a_layer_for_few_rows_gives_what_the_layer_gives(monkeypatch):
    monkeypatch.setattr(cpu, "HAS_ONEDNN", False)  # as on a machine where MKL makes the products
    generator = torch.Generator().manual_seed(5)
    layer = cpu.QuickConv1D(18, 6)
    layer.bias.data.normal_(generator=generator)
    x = torch.randn(7, 6, generator=generator)
    assert cpu.for_few_rows(layer) is layer  # too small to gain
    monkeypatch.setattr(cpu, "LARGE", layer.weight.numel())
    few = cpu.for_few_rows(layer)
    assert (few is layer) != torch.backends.mkl.is_available()
    torch.testing.assert_close(few(x), x @ layer.weight + layer.bias, atol=1e-6, rtol=1e-5)
    for other in (copy.deepcopy(layer).bfloat16(), Conv1D(18, 6), torch.nn.Linear(6, 18)):
        assert cpu.for_few_rows(other) is other


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_quick_layers_change_neither_outputs_nor_weights_nor_ties(kind):
    lm, ids = tiny_lm(kind), inputs()[0]
    names, tied = list(lm.state_dict()), lm.get_output_embeddings().weight is lm.get_input_embeddings().weight
    with torch.no_grad():
        before = lm(input_ids=ids).logits
        after = prepare(lm)(input_ids=ids).logits
    assert any(isinstance(m, cpu.QuickConv1D | cpu.QuickLinear) for m in lm.modules())
    assert list(lm.state_dict()) == names
    assert (lm.get_output_embeddings().weight is lm.get_input_embeddings().weight) == tied
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)
