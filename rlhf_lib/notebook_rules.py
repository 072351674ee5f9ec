"""The notebooks' hygiene: what the runner, nbval and a reader on a web page rely on."""

import argparse
import ast
import json
import re
import sys
from pathlib import Path

from rlhf_lib.errors import KitError

MAX_BYTES = 1_000_000  # a committed notebook, outputs included
MAX_CELL_LINES = 40
WORD = re.compile(r"\w+")  # in prose and code alike; an equation or a fenced piece of code is neither
NO_PROSE = re.compile(r"<details>.*?</details>|```.*?```|\$\$.*?\$\$", re.DOTALL)
NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def read_notebook(path: Path) -> dict:
    """The notebook as JSON. Raises KitError if the file is not a notebook."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KitError(f"{path} is not a readable notebook ({error}); restore it or take it away.") from None
    return notebook


def source(cell: dict) -> str:
    """A cell's text; the format allows a string or a list of lines."""
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def is_parameters(cell: dict) -> bool:
    """Whether the cell carries papermill's tag `parameters`."""
    return "parameters" in cell.get("metadata", {}).get("tags", [])


def has_plain_literals(code: str) -> bool:
    """Whether the code is nothing but `name = literal` lines (comments apart), which a runner can replace."""
    try:
        for statement in ast.parse(code).body:
            if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
                return False
            ast.literal_eval(statement.value)
    except (SyntaxError, ValueError):
        return False
    return True


def is_folded(cell: dict) -> bool:
    """Whether the cell shows as one line until somebody opens it: imports, drawing, checks, solutions."""
    return bool(cell.get("metadata", {}).get("jupyter", {}).get("source_hidden"))


def count_words(cells: list[dict]) -> tuple[int, int]:
    """Words of prose and words of code that a reader of the open notebook sees.

    Neither are displayed equations, fenced code in prose, and whatever is folded (cells, or in <details>).
    """
    prose = [NO_PROSE.sub(" ", source(cell)) for cell in cells if cell["cell_type"] == "markdown"]
    code = [source(cell) for cell in cells if cell["cell_type"] == "code" and not is_folded(cell)]
    return sum(len(WORD.findall(text)) for text in prose), sum(len(WORD.findall(text)) for text in code)


def problems(path: Path) -> list[str]:
    """What is wrong with the notebook, a sentence each; empty if nothing is."""
    notebook, found = read_notebook(path), []
    metadata, cells = notebook.get("metadata", {}), notebook["cells"]
    if metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("its kernelspec is not python3, so JupyterLab would ask for a kernel")
    if "papermill" in metadata or "widgets" in metadata:
        found.append("it carries the metadata of an execution (papermill or widgets)")
    if path.stat().st_size > MAX_BYTES:
        found.append(f"it is larger than {MAX_BYTES:,} bytes")
    parameters = [cell for cell in cells if is_parameters(cell)]
    if len(parameters) != 1:
        found.append(f"it has {len(parameters)} cells tagged 'parameters' where one is wanted")
    elif not has_plain_literals(source(parameters[0])):
        found.append("its parameters cell holds more than plain literals")
    ids = [cell.get("id") for cell in cells]
    if None in ids or len(set(ids)) < len(ids):
        found.append("its cells lack ids, or share one")
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        if len(source(cell).splitlines()) > MAX_CELL_LINES:
            found.append(f"cell {number} is longer than {MAX_CELL_LINES} lines")
        if any(output.get("output_type") == "error" for output in cell.get("outputs", [])):
            found.append(f"cell {number} is committed with an exception in its output")
    return found


def main(argv: list[str]) -> int:
    """`lint-notebooks [FILE …]`: prints each problem; exit status 1 if there is one."""
    parser = argparse.ArgumentParser(prog="rlhf_lib lint-notebooks", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="notebooks (default: all of notebooks/)")
    files = parser.parse_args(argv).files or sorted(NOTEBOOKS.glob("*.ipynb"))
    lines = [f"{path.name}: {problem}." for path in files for problem in problems(path)]
    print("\n".join(lines), end="\n" if lines else "", file=sys.stderr)
    return 1 if lines else 0
