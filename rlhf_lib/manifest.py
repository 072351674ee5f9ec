"""Where a run's things lie, what they were made from, and the cache that keeps finished work from being done again.

A run is `data/runs/<id>/{models,samples,metrics,notebooks,figures}` and a `manifest.json`. What `cached` makes lies in
`data/runs/cache/<key>/`, where the key is a hash of everything that it was made from, and is linked into the run.
"""

import ast
import dataclasses
import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from rlhf_lib.errors import KitError

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
RUN_FOLDERS = ("models", "samples", "metrics", "notebooks", "figures")
CHUNK = 1 << 20  # bytes read at a time when hashing
SAID: set[str] = set()  # keys of this process of which the reader has been told already
RECORDED_VERSIONS = ("torch", "transformers", "numpy", "pandas", "papermill", "vaderSentiment", "rouge-score")


def runs_folder() -> Path:
    """`data/runs`, or what the environment variable RLHF_RUNS names."""
    return Path(os.environ.get("RLHF_RUNS") or ROOT / "data" / "runs").resolve()


def run_folder(run_dir: str | os.PathLike | None, profile: str = "smoke") -> Path:
    """A run's folder with its five subfolders, made if need be; without a name, `data/runs/notebook-<profile>`.

    Notebooks call this with their parameter `run_dir`, which is empty when a person opens them by hand.
    """
    folder = Path(run_dir).resolve() if run_dir else runs_folder() / f"notebook-{profile}"
    for name in RUN_FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill, sees the old text or the new one and nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_rows(path: Path, rows: Iterable[dict]) -> None:
    """JSON lines, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict]:
    """What `write_rows` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_json(path: Path, value) -> None:
    """Atomically write indented JSON with a newline at its end."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, default=plain) + "\n")


def read_json(path: Path) -> dict:
    """Read a JSON object. Raises KitError if the file is missing, cut short, or holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KitError(f"{path} does not exist; make it, or correct the path.") from None
    except (OSError, ValueError) as error:
        raise KitError(f"{path} is not readable JSON ({error}); delete it and make it again.") from None
    if not isinstance(value, dict):
        raise KitError(f"{path} does not hold a JSON object; delete it and make it again.")
    return value


def plain(value):
    """What json cannot write by itself, as plain values: dataclasses, paths, numpy scalars and arrays, sets."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "tolist"):  # numpy, without importing it here
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__}")


# -- hashes ------------------------------------------------------------------------------------------------------------


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def content_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file, or of a folder's file names and contents; something cached is known by its key alone.

    Raises KitError if the path does not exist.
    """
    path = Path(path).resolve()
    if path.parent.parent == runs_folder() / "cache" and (path.parent / "meta.json").is_file():
        return f"{path.parent.name}/{path.name}"
    if path.is_file():
        return file_hash(path)
    if not path.is_dir():
        raise KitError(f"{path} is an input of this step and does not exist; make it first, or correct the path.")
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_hash(file)}\n".encode())
    return digest.hexdigest()


def room_files(room: str) -> list[Path]:
    """The source files of a room named as in `import rlhf_lib.<room>`: 'ppo', 'labels.store', or a whole 'corpora'."""
    base = PACKAGE.joinpath(*room.split("."))
    return (
        sorted(base.rglob("*.py")) if base.is_dir() else [base.with_suffix(".py")] * base.with_suffix(".py").is_file()
    )


def imported_files(tree: ast.AST) -> set[Path]:
    """The files of rlhf_lib that a parsed module imports, wherever in the module it does so."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    ours = {name.partition(".")[2] for name in names if name.startswith("rlhf_lib.")}
    return {path for room in ours for path in room_files(room) if path.stem == room.split(".")[-1]}


def source_hash(rooms: Iterable[str]) -> str:
    """Hash of the code of rooms, of all that they import from rlhf_lib, and of the word lists beside it.

    Parsed code is hashed, so that a change of comments or layout leaves finished work valid.
    """
    waiting, seen = set(), {}
    for room in rooms:
        files = room_files(room)
        if not files:
            raise KitError(f"There is no room '{room}' in rlhf_lib whose source could be hashed; correct its name.")
        waiting |= set(files)
    while waiting:
        path = waiting.pop()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        seen[path] = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
        waiting |= imported_files(tree) - set(seen)
    for path in {text for file in seen if file.parent != PACKAGE for text in file.parent.glob("*.txt")}:
        seen[path] = file_hash(path)
    lines = sorted(f"{path.relative_to(PACKAGE).as_posix()}\0{digest}\n" for path, digest in seen.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def inputs_key(name: str, inputs: Mapping, rooms: Iterable[str] = ()) -> tuple[str, dict]:
    """A key of 24 hex digits for `name` made from `inputs`, and the inputs as they will be recorded.

    A `Path` among the inputs (at any depth) counts by its content, everything else by its value.
    """

    def resolve(value):
        if isinstance(value, os.PathLike):
            return {"content": content_hash(value)}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        if isinstance(value, Mapping):
            return {str(key): resolve(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [resolve(item) for item in value]
        return value

    recorded = {"name": name, "inputs": resolve(inputs), "source": source_hash(rooms)}
    try:
        text = json.dumps(recorded, sort_keys=True, default=plain)
    except TypeError as error:
        raise KitError(f"The inputs of '{name}' hold {error}; pass plain values or Paths.") from None
    return hashlib.sha256(text.encode()).hexdigest()[:24], json.loads(text)


# -- the cache ---------------------------------------------------------------------------------------------------------


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below a folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def is_whole(entry: Path) -> bool:
    """Whether a cache entry is there with every file at the size at which it was written."""
    try:
        expected = read_json(entry / "meta.json")["files"]
    except (KitError, KeyError):
        return False
    return {name: size for name, size in sizes(entry).items() if name != "meta.json"} == expected


@contextmanager
def only_one(path: Path):
    """Let one process at a time into the block; the operating system opens the lock again if the process is killed."""
    import fcntl  # not on Windows, where the rest of this module is still of use

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another process is making {path.stem}; waiting for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached(
    run_dir: str | os.PathLike,
    name: str,
    inputs: Mapping,
    make: Callable[[Path], object],
    rooms: Iterable[str] = (),
    resumes: bool = False,
) -> Path:
    """The file or folder `name` of a run, made by `make(path)` only if nothing made from the same inputs exists.

    name: path in the run, such as "models/sentiment_5k" or "samples/zero_shot.parquet".
    inputs: plain values, dataclasses, and `Path`s (which count by content). Everything that decides the result.
    rooms: the rooms of rlhf_lib whose code decides the result too, such as ("ppo",); what they import counts by itself.
    resumes: if True, what a killed `make` left behind is handed to the next one, which goes on from its checkpoint.
    Returns run_dir/name, a link into the cache. A kill at any moment leaves no half-made result behind.
    Raises KitError if `make` did not write the path that it was given.
    """
    run_dir, started = Path(run_dir).resolve(), time.monotonic()
    key, recorded = inputs_key(name, inputs, rooms)
    cache = runs_folder() / "cache"
    entry = cache / key
    reused = is_whole(entry)
    if not reused:
        with only_one(cache / f"{key}.lock"):
            reused = is_whole(entry)  # another process may have made it while this one waited
            if not reused:
                make_entry(entry, Path(name).name, recorded, make, resumes)
    if not reused:
        SAID.add(key)  # made just now: no news when it is asked for again
    link = run_dir / name
    place_link(link, entry / link.name)
    seconds = round(time.monotonic() - started, 2)
    with open(run_dir / "cache.jsonl", "a", encoding="utf-8") as file:
        row = {"name": name, "key": key, "reused": reused, "seconds": seconds}
        file.write(json.dumps(row | {"notebook": os.environ.get("RLHF_NOTEBOOK", "")}) + "\n")  # set by the runner
    if reused and key not in SAID:
        SAID.add(key)
        print(f"{name}: made before from the same inputs, not made again ({key[:8]}).", flush=True)
    return link


def make_entry(entry: Path, filename: str, recorded: dict, make: Callable[[Path], object], resumes: bool) -> None:
    """Let `make` write into a folder beside the entry, and rename the folder when it is complete."""
    started, partial = time.monotonic(), entry.with_name(entry.name + ".partial")
    if not resumes:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(entry, ignore_errors=True)  # there only if a file of it was lost or cut short
    partial.mkdir(parents=True, exist_ok=True)
    make(partial / filename)
    if not (partial / filename).exists():
        raise KitError(f"Nothing was written for '{recorded['name']}': its maker must write the path that it is given.")
    (partial / "meta.json").unlink(missing_ok=True)
    meta = {**recorded, "files": sizes(partial), "seconds": round(time.monotonic() - started, 2), "git": git_state()}
    write_json(partial / "meta.json", meta)
    os.replace(partial, entry)


def place_link(link: Path, target: Path) -> None:
    """Atomically make `link` a relative symbolic link to `target`. Raises KitError if something real is in the way."""
    if link.exists() and not link.is_symlink():
        raise KitError(f"{link} was not made by the cache and is in its way; move it elsewhere.")
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}.link")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    os.replace(temporary, link)


def cache_rows(run_dir: Path) -> list[dict]:
    """What `cached` did in a run, in order: name, key, reused, seconds."""
    path = run_dir / "cache.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# -- what is written about a run ---------------------------------------------------------------------------------------


def git_state() -> dict:
    """The commit and whether the tree differs from it; empty outside a git checkout."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=30)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(git("status", "--porcelain"))} if commit else {}
    except (OSError, subprocess.TimeoutExpired):
        return {}


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in RECORDED_VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict:
    """The machine that the run's times belong to."""
    return {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()}


def check_model_folder(path: Path) -> None:
    """Raise KitError unless the folder holds a configuration and whole safetensors files (only headers are read)."""
    if not (path / "config.json").is_file():
        raise KitError(f"{path} has no config.json; name a Hugging Face model folder.")
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise KitError(f"{path} has no weights (*.safetensors); save the model there again, as safetensors.")
    from safetensors import SafetensorError, safe_open

    for file in weights:
        try:
            with safe_open(file, framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            raise KitError(f"{file} is damaged or cut short ({error}); copy or train the model again.") from None
