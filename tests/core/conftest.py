"""Test-sized models and a tokenizer of our own: no network, no files of the kit."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from core_models import tiny_lm, tiny_tokenizer

from rlhf_lib.policy import Policy
from rlhf_lib.tasks import Task


@pytest.fixture(scope="session")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture()
def policy():
    return Policy(tiny_lm())


@pytest.fixture()
def task(tokenizer):
    from core_models import STYLE

    return Task("sentiment", STYLE, tokenizer)


@pytest.fixture()
def generator():
    return torch.Generator().manual_seed(0)
