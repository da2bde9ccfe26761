"""CSV files of every dialect open as the same table."""

import gzip

import numpy as np
import pandas as pd
import pytest

from pushforward.data.files.csv import is_csv, read_csv

NUMBERS = [(171.01, 56.96), (1168.94, -53.5), (0.5, 0.0)]
PLAIN = "height,weight\n171.01,56.96\n1168.94,-53.5\n0.5,0.0\n"
HEADED = {
    "plain": PLAIN.encode(),
    "semicolons": PLAIN.replace(",", ";").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "bars": PLAIN.replace(",", "|").encode(),
    "blanks": PLAIN.replace(",", "  ").encode(),
    "decimal commas": PLAIN.replace(",", ";").replace(".", ",").encode(),
    "mark of UTF-8": PLAIN.encode("utf-8-sig"),
    "UTF-16": PLAIN.encode("utf-16"),
    "Windows lines": PLAIN.replace("\n", "\r\n").encode(),
    "comment": b"# measured in 2024\n#\n" + PLAIN.encode(),
    "quotes": PLAIN.replace("171.01", '"171.01"').replace("height", '"height"').encode(),
    "trailing separators in rows": PLAIN.replace("\n", ",\n").replace("weight,", "weight").encode(),
    "trailing separators": PLAIN.replace("\n", ",\n").encode(),
    "blank lines": PLAIN.replace("\n", "\n\n").encode(),
    "no last line break": PLAIN.rstrip().encode(),
}


@pytest.mark.parametrize("content", HEADED.values(), ids=HEADED)
def test_dialects(content, tmp_path):
    (tmp_path / "t.csv").write_bytes(content)
    pd.testing.assert_frame_equal(read_csv(tmp_path / "t.csv"), pd.DataFrame(NUMBERS, columns=["height", "weight"]))


@pytest.mark.parametrize("separator", [",", ";", " "])
def test_without_a_header_the_first_row_is_data(separator, tmp_path):
    text = PLAIN.partition("\n")[2].replace(",", separator)
    (tmp_path / "t.csv").write_text(text if separator != ";" else text.replace(".", ","))
    found = read_csv(tmp_path / "t.csv")
    assert list(found.columns) == ["0", "1"]
    np.testing.assert_array_equal(found.to_numpy(), NUMBERS)


def test_a_label_tells_a_first_row_from_a_header(tmp_path):
    (tmp_path / "rows.csv").write_text("1.5,2.5,a\n2.5,3.5,b\n3.5,1.5,a\n")
    assert len(read_csv(tmp_path / "rows.csv")) == 3
    pd.DataFrame([[1.5, 2.5], [2.5, 1.5]]).to_csv(tmp_path / "unnamed.csv", index=False)
    assert list(read_csv(tmp_path / "unnamed.csv").columns) == ["0", "1"]
    assert len(read_csv(tmp_path / "unnamed.csv")) == 2
    (tmp_path / "years.csv").write_text("country,2019,2020\nFrance,1,2\nPeru,3,4\n")
    assert list(read_csv(tmp_path / "years.csv").columns) == ["country", "2019", "2020"]


def test_types_of_cells(tmp_path):
    (tmp_path / "t.csv").write_text(
        "whole,gaps,real,yes,gappy,code,money,date,word,huge\n"
        "1,1,1,True,true,007,$1.50,2024-01-31,a,1e999\n"
        "2,NA,?,False,,010,$2.00,2024-02-01,,2\n"
        "3,3,2.5,True,false,100,$0.25,2024-03-01,null,3\n"
    )
    found = read_csv(tmp_path / "t.csv")
    dtypes = ["int64", "Int64", "float64", "bool", "boolean", "str", "str", "str", "str", "float64"]
    assert list(map(str, found.dtypes)) == dtypes
    assert found["code"].tolist() == ["007", "010", "100"]
    assert found["gaps"].isna().tolist() == [False, True, False]
    assert found["word"].isna().tolist() == [False, True, False]  # "null" may be a word
    assert np.isinf(found["huge"].iloc[0])


def test_encodings_and_names_of_several_lines(tmp_path):
    (tmp_path / "latin.csv").write_bytes('"größe\n(cm)",Stadt\n1,Köln\n2,Zürich\n'.encode("latin-1"))
    found = read_csv(tmp_path / "latin.csv")
    assert list(found.columns) == ["größe (cm)", "Stadt"]
    assert found["Stadt"].tolist() == ["Köln", "Zürich"]


def test_packed_files(tmp_path):
    with gzip.open(tmp_path / "t.csv.gz", "wb") as file:
        file.write(PLAIN.encode())
    assert is_csv(tmp_path / "t.csv.gz")
    assert not is_csv(tmp_path / "t.npy.gz")
    assert read_csv(tmp_path / "t.csv.gz").shape == (3, 2)
    (tmp_path / "broken.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"broken.csv.gz cannot be unpacked"):
        read_csv(tmp_path / "broken.csv.gz")


def test_an_index_that_pandas_wrote_has_a_name(tmp_path):
    pd.DataFrame({"a": [1.5, 2.5]}).to_csv(tmp_path / "t.csv")
    assert list(read_csv(tmp_path / "t.csv").columns) == ["Unnamed: 0", "a"]


def test_rows_of_different_lengths_are_refused(tmp_path):
    (tmp_path / "long.csv").write_text("a,b\n1,2\n3,4,5\n")
    with pytest.raises(ValueError, match=r"row 1 .* has 3 cells, not 2: '3, 4, 5'"):
        read_csv(tmp_path / "long.csv")
    (tmp_path / "short.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(ValueError, match=r"row 1 .* has 1 cells, not 2: '3'"):
        read_csv(tmp_path / "short.csv")
