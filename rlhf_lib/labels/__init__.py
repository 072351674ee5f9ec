"""Labels: where they are kept (`LabelStore`), and a labeler's way through a queue (`LabelSession`).

The room knows the rooms before it only; it never imports torch.
"""

from rlhf_lib.labels.schema import Event
from rlhf_lib.labels.session import Item, LabelSession
from rlhf_lib.labels.store import LabelStore

__all__ = ["Event", "Item", "LabelSession", "LabelStore"]
