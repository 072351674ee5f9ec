"""Labels: where they are kept (`LabelStore`), a labeler's way through a queue (`LabelSession`), import and export.

The room knows the rooms before it only; it never imports torch.
"""

from rlhf_lib.labels.exporting import for_fitting, to_dataset, write_labels
from rlhf_lib.labels.importing import ImportReport, import_labels
from rlhf_lib.labels.schema import Event
from rlhf_lib.labels.session import Item, LabelSession
from rlhf_lib.labels.store import LabelStore

__all__ = [
    "Event",
    "ImportReport",
    "Item",
    "LabelSession",
    "LabelStore",
    "for_fitting",
    "import_labels",
    "to_dataset",
    "write_labels",
]
