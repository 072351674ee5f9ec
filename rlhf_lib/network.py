"""No network is found out at once, not after five retries with a warning each."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock
from urllib.parse import urlparse

PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")  # they resolve names for those behind them


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Within it, the hub's clients look only at what is on this machine where the hub's name has no address.

    They would retry for 25 seconds and warn each time; a copy that was downloaded before is found either way.
    """
    if _has_address():
        yield
        return
    import datasets  # a second to import, and only who asks the hub needs it
    from huggingface_hub import constants

    with (
        mock.patch.object(constants, "HF_HUB_OFFLINE", True),
        mock.patch.object(datasets.config, "HF_HUB_OFFLINE", True),
    ):
        yield


def _has_address() -> bool:
    """Whether the hub's name can be resolved here, or a proxy will do it."""
    if any(os.environ.get(name) for name in PROXIES):
        return True
    from huggingface_hub import constants

    host = urlparse(constants.ENDPOINT).hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True
