"""Data sets in the hub's schemas: the original's cleaning, local folders, splits, and what is said in bad cases."""

import gzip
import json
from itertools import islice

import pandas as pd
import pytest

from rlhf_lib.analysis import copying
from rlhf_lib.corpora import cleaning, hub, streams
from rlhf_lib.errors import KitError

# ---- cleaning, by hand ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("(CNN)A dog ran.", "A dog ran."),
        ("Lagos, Nigeria (CNN)A dog ran.", "A dog ran."),
        ("LONDON, England (CNN) -- A dog ran. It fell.", "A dog ran.\n\nIt fell."),
        ("By . A. Name . PUBLISHED: . 05:53 EST, 28 March 2013 . | . UPDATED: . 06:01 EST, 28 March 2014 . A dog ran.",
         "A dog ran."),
        ("By . Mark Two . and Hugo . A dog ran.", "A dog ran."),
        ("By the time it came, a dog ran.", "By the time it came, a dog ran."),
        ("A dog’s ball. Mr. Fox of the U.S. Army took ‘it’ .", "A dog's ball.\n\nMr. Fox of the U.S. Army took 'it'"),
        ("By\nA Name\n\nA dog ran.\n\n\n\nIt fell.\n\n@highlight\n\nDog falls", "A dog ran.\n\nIt fell."),
        ("A dog ran\n\n(CNN) was there", "was there"),
        ("schÃ¶n", "schön"),
    ],
)  # fmt: skip
def test_articles_are_cleaned_as_the_original_did(text, cleaned):
    assert cleaning.clean_article(text) == cleaned


def test_a_later_mention_of_the_outlet_stays():
    text = "A dog ran. " * 20 + "He told (CNN) so."
    assert "(CNN)" in cleaning.clean_article(text)


def test_posts_prompts_highlights_and_prose():
    assert cleaning.clean_post("a\n\n\n\nb \n") == "a\n\nb"
    prompt = "SUBREDDIT: r/x\n\nTITLE: y\n\nPOST: Hi all.\nPOST: two.\n\nTL;DR:"
    assert cleaning.post_of_prompt(prompt) == "Hi all.\nPOST: two."
    assert cleaning.clean_highlights("One thing .\nAnother!") == "One thing. Another!"
    hubs = "`` it 's late , '' he said . we do n't mind ."
    assert cleaning.clean_prose(hubs) == "\" it's late, \" he said. we don't mind."
    assert cleaning.clean_prose("A plain . . . text. It stays. As is.") == "A plain . . . text. It stays. As is."


# ---- local folders in the hub's format ------------------------------------------------------------------------

WORDS = ["walk", "river", "stone", "light", "house", "winter", "garden", "letter"]


def sentence(i):
    return f"the {WORDS[i % 8]} number {i} went to the {WORDS[(i // 8) % 8]} and stayed ."


def article(i):
    return {"article": f"(CNN)Story {i} begins here. It goes on. Then it ends.", "highlights": f"Story {i} .\nEnds .",
            "id": f"{i:x}"}  # fmt: skip


def prompt(i):
    return {"prompt": f"SUBREDDIT: r/a\n\nTITLE: t\n\nPOST: {'Hi, ' if i % 4 == 0 else ''}Post {i} is long.\n\nTL;DR:",
            "completion": f" post {i}"}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The three sets as the hub has them: Parquet with splits, a configuration's folder, one JSONL file."""
    root = tmp_path_factory.mktemp("corpus")
    for split, numbers in {"train": range(60), "validation": range(60, 70), "test": range(70, 90)}.items():
        for folder, make in (("cnn_dailymail/3.0.0", article), ("tldr/data", prompt)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            pd.DataFrame(map(make, numbers)).to_parquet(root / folder / f"{split}-00000-of-00001.parquet")
    (root / "books").mkdir()
    with gzip.open(root / "books/train.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": sentence(i)}) + "\n" for i in range(3000))
    return root


def test_summary_documents_of_a_folder(corpus):
    articles = streams.summary_documents("cnndm", "test", 0, None, corpus)
    assert len(articles) == 20
    one = next(d for d in articles if d.text.startswith("Story 71 "))
    assert one.text == "Story 71 begins here.\n\nIt goes on.\n\nThen it ends."
    assert (one.reference, one.facts, one.starts_with_preamble, one.task) == ("Story 71. Ends.", None, False, "cnndm")
    posts = streams.summary_documents("tldr", "train", 0, 30, corpus)
    assert len(posts) == 30
    assert all(d.starts_with_preamble == d.text.startswith("Hi,") for d in posts)
    assert {d.starts_with_preamble for d in posts} == {True, False}
    assert not {d.text for d in posts} & {d.text for d in streams.summary_documents("tldr", "test", 0, None, corpus)}


def test_the_seed_sets_the_order_and_nothing_else(corpus):
    one, again, other = (streams.summary_documents("tldr", "train", s, None, corpus) for s in (1, 1, 2))
    assert one == again != other
    assert sorted(d.text for d in one) == sorted(d.text for d in other)


def test_passages_are_neighbouring_sentences_and_never_end(corpus):
    texts = list(islice(streams.style_texts(corpus, "train", 3), 500))  # 3,000 sentences make about 116 passages
    assert len(set(texts)) < len(texts)
    assert all(280 >= len(text.split()) >= 140 for text in texts)
    first = texts[0]
    numbers = [int(word) for word in first.replace(".", "").split() if word.isdigit()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert " ." not in first and ". " in first
    held = set(islice(streams.style_texts(corpus, "test", 3), 100))
    assert not held & set(texts)


def test_a_set_without_a_test_split_keeps_every_twentieth_apart(tmp_path):
    pd.DataFrame(map(prompt, range(100))).to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    for source in (tmp_path, tmp_path / "rows.jsonl"):  # a folder that is the set itself, or a file
        train, test = (streams.summary_documents("tldr", split, 0, None, source) for split in ("train", "test"))
        assert (len(train), len(test)) == (95, 5)
        assert not {d.text for d in train} & {d.text for d in test}


def test_other_columns_of_tldr(tmp_path):
    (tmp_path / "tldr").mkdir()
    rows = [{"content": f"Okay, so {i}.", "summary": f"s {i}", "author": "x"} for i in range(40)]
    pd.DataFrame(rows).to_parquet(tmp_path / "tldr/train.parquet")
    found = streams.summary_documents("tldr", "train", 0, 5, tmp_path)
    assert all(d.starts_with_preamble and d.reference.startswith("s ") for d in found)


# ---- what is said when it is not there ------------------------------------------------------------------------


def said(task, corpus, split="train"):
    with pytest.raises(KitError) as caught:
        if task == "books":
            next(streams.style_texts(corpus, split))
        else:
            streams.summary_documents(task, split, 0, 3, corpus)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_folders(tmp_path, corpus):
    assert "There is no corpus" in said("cnndm", tmp_path / "none")
    assert "no subfolder 'tldr'" in said("tldr", tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert "is a model's folder and holds no texts" in said("tldr", tmp_path / "model")
    (tmp_path / "books").mkdir()
    assert "no subfolder 'cnn_dailymail'" in said("cnndm", tmp_path)
    assert "cannot be read" in said("books", tmp_path)  # an empty folder


def test_wrong_columns(tmp_path):
    (tmp_path / "tldr").mkdir()
    pd.DataFrame([{"body": "x", "tldr": "y"}]).to_parquet(tmp_path / "tldr/train.parquet")
    message = said("tldr", tmp_path)
    assert "columns body, tldr" in message and "prompt and completion or post and summary" in message


def test_damaged_and_empty_files(tmp_path):
    (tmp_path / "tldr").mkdir()
    file = tmp_path / "tldr/train.parquet"
    pd.DataFrame([prompt(1)]).to_parquet(file)
    file.write_bytes(file.read_bytes()[:50])
    assert "cannot be read" in said("tldr", tmp_path)
    pd.DataFrame([{"prompt": "", "completion": ""}]).to_parquet(file)
    assert "no tldr document" in said("tldr", tmp_path)
    (tmp_path / "books").mkdir()
    (tmp_path / "books/a.jsonl").write_text(json.dumps({"text": "too short."}) + "\n")
    assert "no passage of 140 words" in said("books", tmp_path)


@pytest.mark.parametrize("task", ["books", "cnndm", "tldr"])
def test_no_network(task, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach the Hugging Face Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    message = said(task, "hub")
    assert "cannot be reached" in message and "CORPUS" in message and hub.SETS[task].name in message


def test_gated_or_gone(monkeypatch):
    import datasets

    def gone(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'x' doesn't exist on the Hub or cannot be accessed.")

    monkeypatch.setattr(datasets, "load_dataset", gone)
    assert "gone from the hub, or gated" in said("cnndm", "hub")


# ---- real files -----------------------------------------------------------------------------------------------


def rows_of(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_real_articles_keep_their_text_and_lose_their_heads(real):
    raw = [r["article"] for r in rows_of(real / "cnndm_real.jsonl.gz") if r["cased"] is True and not r["tokenized"]]
    cleaned = [cleaning.clean_article(text) for text in raw]
    assert len(raw) > 500
    assert not [text for text in cleaned if "\n" not in text]  # a query needs a line's end
    heads = [text[:150] for text in cleaned]
    assert not [head for head in heads if "PUBLISHED" in head or "UPDATED" in head or head.startswith(("By\n", "By ."))]
    assert sum("(CNN)" in head for head in heads) == 0 < sum("(CNN)" in text[:100] for text in raw)
    for before, after in zip(raw, cleaned, strict=True):  # nothing is lost but heads and signs
        assert len(after) > 0.9 * len(before) - 220


def test_real_preambles_by_the_posts_definitions(real):
    for name, column, task, field in (("cnndm_real", "article", "cnndm", "colon_in_first_3_words"),
                                      ("tldr_real", "post", "tldr", "preamble_start")):  # fmt: skip
        found = rows_of(real / f"{name}.jsonl.gz")
        mine = [cleaning.has_preamble(row[column], task) for row in found]
        assert mine == [bool(row[field]) for row in found]
        assert 0 < sum(mine) < len(mine)
        assert mine == [copying.has_preamble(row[column], task) for row in found]  # the analysis has its own rule


def test_real_books_make_queries_that_start_and_end_at_a_period(real, tmp_path):
    from transformers import GPT2TokenizerFast

    from rlhf_lib.profiles import get_profile
    from rlhf_lib.tasks import Task

    (tmp_path / "books").mkdir()
    with gzip.open(tmp_path / "books/train.jsonl.gz", "wt") as file:
        for book in rows_of(real / "books_gutenberg.jsonl.gz")[:2]:
            file.writelines(json.dumps({"text": part}) + "\n" for part in book["text"].split("\n\n"))
    task = Task("sentiment", get_profile("gpt2").sentiment.text, GPT2TokenizerFast.from_pretrained(real / "gpt2_bpe"))
    texts = list(islice(streams.style_texts(tmp_path, "train"), 100))
    queries = [q for q in map(task.query_tokens, texts) if q]
    assert len(queries) > 70
    assert all(len(q) <= 64 and q[-1] == 13 for q in queries)
