"""One set of colours for all widgets of the kit."""

from pathlib import Path

SHARED = Path(__file__).with_name("theme.css")


def themed(sheet: Path) -> str:
    """A widget's style sheet, after the colours that all widgets share."""
    return SHARED.read_text(encoding="utf-8") + sheet.read_text(encoding="utf-8")
