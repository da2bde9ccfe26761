"""Texts as rows of tokens: back and forth, blocks and end marks, files, and what people do wrong."""

import numpy as np
import pandas as pd
import pytest

import pushforward as pf
from pushforward.data import Schema, Text, Tokenizer, check_target, open_data, write_samples

SHORT = ["to be", "or not", "", "to be", "that is it"]
LONG = ["whether 'tis nobler in the mind to suffer\nthe slings and arrows " * 3]


@pytest.mark.parametrize("tokens", ["characters", "bytes", "bpe"])
def test_texts_come_back_as_they_were(tokens):
    texts = [*SHORT, "naïve 🙂"]
    tokenizer, rows, origin = Tokenizer.fit(texts, Text(tokens=tokens, vocabulary=300))
    assert tokenizer.ends
    assert rows.max() < tokenizer.levels
    assert tokenizer.decode(rows).tolist() == texts
    assert origin.tolist() == list(range(6))
    again = Tokenizer.from_json(tokenizer.to_json())
    np.testing.assert_array_equal(again.encode(texts)[0], rows)
    assert tokenizer.lengths(rows).tolist() == [
        min(len(text) + 1, 10) if tokens == "characters" else n for text, n in zip(texts, tokenizer.lengths(rows), strict=True)
    ]


def test_long_texts_are_cut_into_blocks_and_what_is_left_is_dropped():
    data = open_data(LONG, text=Text(block=20))
    text = LONG[0]
    assert data.schema.text.decode(data.values).tolist() == [text[i : i + 20] for i in range(0, len(text) // 20 * 20, 20)]
    assert not data.schema.text.ends


def test_each_block_has_the_condition_of_its_text():
    data = open_data([*LONG, "short"], text=Text(block=32), condition=["a", "b"])
    assert data.condition.tolist() == ["a"] * (len(LONG[0]) // 32) + ["b"]
    assert data.schema.text.ends
    assert data.schema.text.decode(data.values)[-1] == "short"


def test_columns_of_texts():
    frame = pd.DataFrame({"review": SHORT, "stars": ["1", "2", "1", "2", "1"]})
    data = open_data(frame, kind="tokens", columns="review", condition="stars")
    assert data.schema.text.decode(data.values).tolist() == SHORT
    assert data.condition.tolist() == ["1", "2", "1", "2", "1"]
    assert open_data(frame["review"]).schema == data.schema
    with pytest.raises(ValueError, match=r"texts stand in one column, but the data have 2"):
        open_data(frame, kind="tokens")


def test_a_space_opens_the_column_that_was_learned(tmp_path):
    pd.DataFrame({"review": ["to be", "or not"] * 10, "stars": [1, 2] * 10, "id": range(20)}).to_csv(
        tmp_path / "r.csv", index=False
    )
    model = pf.Autoregressive(
        network=pf.TransformerSpec(width=8, depth=1, heads=2), train_steps=2, random_state=0, kind="tokens"
    )
    trained = pf.train(tmp_path / "r.csv", model, columns="review", condition="stars", out=tmp_path / "run")
    opened = trained.space_.open(tmp_path / "r.csv", {"columns": "review", "condition": "stars"})
    assert opened.schema == trained.space_.schema
    assert np.isfinite(trained.score_samples(opened.values, condition=opened.condition)).all()


def test_files_and_folders(tmp_path):
    for author, text in (("a", "one two"), ("b", "three"), ("b", "four")):
        (tmp_path / "all" / author).mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / author / f"{text}.txt").write_text(text)
    data = open_data(tmp_path / "all")
    assert data.schema.text.decode(data.values).tolist() == ["one two", "four", "three"]
    assert data.condition.tolist() == ["a", "b", "b"]
    (tmp_path / "x.txt").write_bytes(("\ufeff" + LONG[0].replace("\n", "\r\n")).encode())
    read = open_data(tmp_path / "x.txt", text=Text(block=16))
    assert "".join(read.schema.text.decode(read.values)) == LONG[0][: len(LONG[0]) // 16 * 16]
    samples = np.array(["two\nlines", "x"], dtype=object)
    write_samples(tmp_path / "out.txt", samples, read.schema)
    assert (tmp_path / "out.txt").read_text() == "two\nlines\n\nx\n"
    write_samples(tmp_path / "folder", samples, read.schema, condition=["u", "v"])
    assert (tmp_path / "folder" / "v" / "00001.txt").read_text() == "x"
    write_samples(tmp_path / "out.csv", samples, read.schema)
    assert pd.read_csv(tmp_path / "out.csv")["text"].tolist() == ["two\nlines", "x"]
    with pytest.raises(ValueError, match=r"texts are written as"):
        check_target(tmp_path / "out.npy", read.schema)
    with pytest.raises(ValueError, match=r"a .txt file holds texts"):
        check_target(tmp_path / "out.txt", Schema.infer(np.eye(3)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty"),
        (b" \n ", r"is empty"),
        (bytes(range(256)), r"binary"),
        (b"a\x00b", r"binary: it has zero bytes"),
        ("ü".encode("latin-1"), r"no text in UTF-8 \(byte 0 is 0xfc\)"),
        (b"to be", r"has 5 characters, but at least two blocks of 128 are needed.*text=Text\(block=2\)"),
    ],
)
def test_files_that_are_no_texts_are_refused(content, message, tmp_path):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_data(tmp_path / "x.txt")


def test_what_a_trained_tokenizer_does_not_know_is_refused():
    tokenizer, _, _ = Tokenizer.fit(LONG, Text(block=20))
    with pytest.raises(ValueError, match=r"the character 'ß' \(in 'a mußt'\) was never seen in training"):
        tokenizer.codes("a mußt")
    with pytest.raises(ValueError, match=r"text 1 has 5 characters, but the rows of this model have 20; give longer ones"):
        tokenizer.encode([LONG[0][:20], "short"[:2] + "ind"])
    with pytest.raises(ValueError, match=r"text 0 has 21 characters.*cut it"):
        tokenizer.encode([LONG[0][:21]])
    with pytest.raises(TypeError, match=r"kind='tokens' is for texts, but X holds numbers"):
        open_data(np.eye(3, dtype=int), kind="tokens")
    with pytest.raises(TypeError, match=r"texts, but the data hold others, or gaps"):
        open_data(["a", None], kind="tokens")
    for wrong in ({"tokens": "words"}, {"block": 1}, {"vocabulary": 10}, {"block": 2.5}):
        with pytest.raises(ValueError, match=r"must be"):
            Text(**wrong)


def test_a_stored_schema_of_texts_is_checked():
    schema = open_data(LONG, text=Text(block=20)).schema
    assert Schema.from_json(schema.to_json()) == schema
    for change in ({"length": 21}, {"tokens": "words"}, {"characters": "aa"}, {"ends": 1}, {"bpe": "{}"}):
        facts = schema.to_json()
        with pytest.raises(ValueError):
            Schema.from_json(facts | {"text": facts["text"] | change})


def test_families_that_learn_no_texts_name_those_that_do():
    with pytest.raises(ValueError, match=r"VAE does not learn texts.*Autoregressive\(\), MaskedDiffusion\(\)"):
        pf.VAE().fit(SHORT)
