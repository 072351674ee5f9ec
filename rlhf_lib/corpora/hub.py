"""BookCorpus-like text, CNN/DailyMail and TL;DR in the schemas of the Hugging Face hub, streamed through `datasets`.

From the hub itself (CORPUS=hub) or from a local folder of Parquet or JSONL files of the same columns, in which each set
has a subfolder (`books`, `cnn_dailymail`, `tldr`), or which is one of the sets. data/README.md has a card for each.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rlhf_lib.corpora import cleaning
from rlhf_lib.corpora.tinyworld import Document
from rlhf_lib.errors import KitError
from rlhf_lib.network import offline_if_unreachable

HUB = "hub"  # the value of CORPUS that means: from the hub
SPLITS = {"train": ("train",), "test": ("test", "validation", "valid", "val")}
HELD_OUT = 20  # where a set has no split to test on, every 20th document, or passage, is kept for it
SUFFIXES = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz")
SHUFFLE = 10_000  # rows, or a tenth as many passages, in the buffer that shuffles a stream


@dataclass(frozen=True)
class HubSet:
    """One data set: where it is on the hub, names of its local folder, and the columns that it may have."""

    name: str
    config: str | None
    revision: str | None
    folders: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]  # each a set of columns that is enough


SETS = {
    "books": HubSet("bookcorpus/bookcorpus", None, "refs/convert/parquet",
                    ("books", "bookcorpus", "bookcorpusopen"), (("text",),)),
    "cnndm": HubSet("abisee/cnn_dailymail", "3.0.0", None, ("cnn_dailymail", "cnndm"), (("article", "highlights"),)),
    "tldr": HubSet("trl-lib/tldr", None, None, ("tldr",),
                   (("prompt", "completion"), ("post", "summary"), ("content", "summary"))),
}  # fmt: skip


def is_hub_format(corpus: str | Path) -> bool:
    """Whether CORPUS is the hub, a folder, or a Parquet file, and no plain file of prose (see `textfile`)."""
    return str(corpus) == HUB or Path(corpus).is_dir() or str(corpus).endswith(".parquet")


# ---- texts ----------------------------------------------------------------------------------------------------


def passages(corpus: str | Path, split: str, words: int, seed: int = 0) -> Iterator[str]:
    """Passages of at least `words` words of the set `books`, without end, shuffled in a buffer, a pass after another.

    Rows may be sentences, paragraphs or whole books: neighbours are joined and long ones cut. KitError for a set
    without text.
    """
    rng = random.Random(f"hub/{split}/{seed}")
    while True:
        found = False
        for passage in _shuffled(_windows(*rows("books", corpus, split), split, words), rng, SHUFFLE // 10):
            found = True
            yield passage
        if not found:
            raise KitError(f"The books in '{corpus}' hold no passage of {words} words to {split} on; give more.")


def _windows(found: Iterable[dict], has_split: bool, split: str, words: int) -> Iterator[str]:
    """Neighbouring texts as passages of `words` to twice as many words."""
    waiting: list[str] = []
    number = 0
    for row in found:
        waiting += cleaning.clean_prose(row["text"]).split()
        while len(waiting) >= words:
            passage, waiting = " ".join(waiting[: 2 * words]), waiting[2 * words :]
            if has_split or _is_held_out(number) == (split == "test"):
                yield passage
            number += 1


def _shuffled(items: Iterable, rng: random.Random, size: int) -> Iterator:
    """The items in another order, from a buffer of `size`."""
    buffer = []
    for item in items:
        buffer.append(item)
        if len(buffer) >= size:
            at = rng.randrange(len(buffer))
            buffer[at], buffer[-1] = buffer[-1], buffer[at]
            yield buffer.pop()
    rng.shuffle(buffer)
    yield from buffer


def documents(task: str, corpus: str | Path, split: str = "train", seed: int = 0) -> Iterator[Document]:
    """Cleaned articles (`cnndm`) or posts (`tldr`) with their reference summaries, one pass, in an order by seed.

    Rows without text or without a summary are left out. There are no facts behind real text: `facts` is None.
    """
    found, has_split = rows(task, corpus, split)
    kept = (r for n, r in enumerate(found) if has_split or _is_held_out(n) == (split == "test"))
    make = _article if task == "cnndm" else _post
    for row in _shuffled(kept, random.Random(f"hub/{task}/{split}/{seed}"), SHUFFLE):
        text, reference = make(row)
        if text and reference:
            yield Document(text, reference, None, cleaning.has_preamble(text, task), task)


def _article(row: dict) -> tuple[str, str]:
    return cleaning.clean_article(row["article"] or ""), cleaning.clean_highlights(row["highlights"] or "")


def _post(row: dict) -> tuple[str, str]:
    if row.get("prompt") is not None:
        text = cleaning.post_of_prompt(row["prompt"])
    else:
        text = row.get("content") or row.get("post") or ""
    return cleaning.clean_post(text), " ".join((row.get("completion") or row.get("summary") or "").split())


def _is_held_out(number: int) -> bool:
    return number % HELD_OUT == HELD_OUT - 1


# ---- rows -----------------------------------------------------------------------------------------------------


def rows(what: str, corpus: str | Path, split: str) -> tuple[Iterator[dict], bool]:
    """Rows of a set (`books`, `cnndm`, `tldr`), streamed in their order, and whether the set has train and test splits.

    Where it has not, these are the rows of its only one, and the caller keeps every `HELD_OUT`-th for the test.
    Raises KitError in one sentence for a hub that cannot be reached, a set that is missing or gated, a folder without
    data, or columns that are not the set's.
    """
    try:
        splits = _open(what, corpus)
    except KitError:
        raise
    except Exception as error:  # `datasets`, the hub's client and pyarrow raise a dozen unrelated types
        raise KitError(_sentence(what, corpus, error)) from error
    names = {part: next((name for name in among if name in splits), None) for part, among in SPLITS.items()}
    has_both = None not in names.values()
    return _checked(iter(splits[names[split] if has_both else next(iter(splits))]), what, corpus), has_both


def _open(what: str, corpus: str | Path):
    """All splits of a set, name -> stream of rows."""
    import datasets  # a second to import, and the embedded world needs none of it

    known = SETS[what]
    if str(corpus) == HUB:
        with offline_if_unreachable():
            return datasets.load_dataset(known.name, known.config, revision=known.revision, streaming=True)
    folder = _folder(known, what, Path(corpus))
    if folder.is_file():
        kind = "parquet" if folder.suffix == ".parquet" else "json"
        return datasets.load_dataset(kind, data_files=str(folder), streaming=True)
    configs = datasets.get_dataset_config_names(str(folder))
    config = known.config if known.config in configs else None
    return datasets.load_dataset(str(folder), config, streaming=True)


def _folder(known: HubSet, what: str, corpus: Path) -> Path:
    """Where a set lies in a corpus: the subfolder of its name, or the corpus itself."""
    if corpus.is_file():
        return corpus
    if not corpus.is_dir():
        raise KitError(f"There is no corpus '{corpus}'; give CORPUS a file, a folder in the hub's format, or 'hub'.")
    if (corpus / "config.json").is_file():
        raise KitError(
            f"'{corpus}' is a model's folder and holds no texts; give CORPUS a data set's (see data/README.md)."
        )
    inside = {path.name.lower(): path for path in sorted(corpus.iterdir())}
    for name in known.folders:
        if name in inside:
            return inside[name]
    others = {name for other in SETS.values() for name in other.folders}
    if not others & set(inside) and any(p.name.endswith(SUFFIXES) for p in corpus.rglob("*") if p.is_file()):
        return corpus
    raise KitError(
        f"The folder '{corpus}' has no subfolder '{known.folders[0]}' with Parquet or JSONL files for {what}; "
        f"download {known.name} there (see data/README.md)."
    )


def _checked(stream: Iterator[dict], what: str, corpus: str | Path) -> Iterator[dict]:
    """The rows, if the first has the set's columns; errors on the way are sentences, too."""
    known, is_first = SETS[what], True
    while True:
        try:
            row = next(stream, None)
        except Exception as error:
            raise KitError(_sentence(what, corpus, error)) from error
        if row is None:
            return
        if is_first and not any(set(columns) <= set(row) for columns in known.columns):
            wanted = " or ".join(" and ".join(columns) for columns in known.columns)
            where = f"'{known.name}' on the hub" if str(corpus) == HUB else f"'{corpus}'"
            raise KitError(f"The {what} rows of {where} have the columns {', '.join(row)}, but {wanted} are needed.")
        is_first = False
        yield row


def _sentence(what: str, corpus: str | Path, error: Exception) -> str:
    """One sentence for whatever went wrong, with the remedy."""
    known = SETS[what]
    kinds = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    said = f"{type(error).__name__}: {error}".splitlines()[0][:160]
    if str(corpus) != HUB:
        return f"The data for {what} in '{corpus}' cannot be read ({said}); save it again as Parquet or JSONL."
    remedy = f"download it elsewhere and give its folder as CORPUS (see data/README.md, {what})"
    if kinds & {"GatedRepoError", "DatasetNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError"}:
        return f"The data set '{known.name}' is gone from the hub, or gated and not opened for you; {remedy}."
    if kinds & {"ConnectionError", "OfflineModeIsEnabled", "TimeoutError", "TransportError", "LocalEntryNotFoundError"}:
        return f"The Hugging Face hub cannot be reached for '{known.name}' (no network?); {remedy}."
    return f"The data set '{known.name}' could not be opened ({said}); {remedy}."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def first_documents(task: str, corpus: str | Path, split: str, seed: int, limit: int | None) -> list[Document]:
    """The first `limit` documents (None: all). KitError if there is none."""
    found = list(islice(documents(task, corpus, split, seed), limit))
    if not found:
        raise KitError(f"The corpus '{corpus}' has no {task} document to {split} on that has a summary; give more.")
    return found
