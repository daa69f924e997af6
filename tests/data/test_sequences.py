"""Sequences of one's own: what is read of them, held out of them, and refused."""

import gzip
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from noiseloom.data import Numbers, Symbols, read_sequences, vocabulary

SHARED = Path(os.environ.get("NOISELOOM_DATA", "/nowhere")) / "molecules"

PROTEINS = ["MKV", "MK", "GAVLI", "W", "MKVL"]
MOLECULES = ["CCO", "c1ccccc1", "C[C@@H](N)C(=O)O", "ClCBr", "C%12CC%12", "[nH]1cccc1"]

FASTA = ">one a\nMKV\n\n>two\r\nmk\n; a remark\n>three\nGA\nVL I\n>four\nW\n>five\nMK\nVL"
CSV = 'id,Sequence,part\n1,MKV,train\n2,"MK",Test\n\n3, GAVLI ,train\n4,W,valid\n5,MKVL,train\n'

KINDS = {
    "x.fasta": (FASTA, PROTEINS),
    "x.fa": (FASTA, PROTEINS),
    "x.txt": ("MKV\nMK\n\n  GAVLI\r\nW\nMKVL", PROTEINS),
    "x.csv": (CSV, PROTEINS),
    "one.csv": ("any\n" + "\n".join(PROTEINS), PROTEINS),
    "x.smi": ("".join(f"{smiles} name {i}\n" for i, smiles in enumerate(MOLECULES)), MOLECULES),
    "smiles.csv": ("smiles,y\n" + "".join(f"{smiles},1\n" for smiles in MOLECULES), MOLECULES),
}


def rows(part, made):
    return made.decode(part[torch.arange(len(part))]["tokens"])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_its_sequences(tmp_path, name, packed):
    text, expected = KINDS[name]
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    split, made = read_sequences(path, held_out=0.4)
    train, held = rows(split.train, made), rows(split.held_out, made)
    assert sorted(train + held) == sorted(expected)
    assert len(held) == 2
    assert made.spelling == ("smiles" if expected is MOLECULES else "characters")
    assert made.length == (11 if expected is MOLECULES else 5)
    assert split.train.sizes == made.sizes == (len(made.symbols) + 1,) * made.length
    assert split.train.values.dtype == torch.uint8
    assert split.notes == ()
    assert vocabulary(made.facts()).decode(split.train.values) == train


def test_symbols_of_smiles_are_whole(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("\n".join(MOLECULES))
    _, made = read_sequences(path, spelling="smiles")
    assert {"Cl", "Br", "[C@@H]", "[nH]", "%12"} < set(made.symbols)
    assert "l" not in made.symbols
    assert "l" in read_sequences(path)[1].symbols


def test_a_column_names_the_parts_and_no_sequence_is_in_both(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(CSV + "6,W,train\n7,MKVL,test\n8,MK,test\n")
    split, made = read_sequences(path, split="part")
    assert rows(split.train, made) == ["MKV", "GAVLI", "MKVL", "W"]
    assert rows(split.held_out, made) == ["MK"]
    assert split.notes == ("3 sequences equal another one",)


@pytest.mark.parametrize("seed", range(5))
def test_equal_sequences_are_in_one_part(tmp_path, seed):
    draw = random.Random(seed)
    texts = ["".join(draw.choices("ab", k=draw.randrange(1, 6))) for _ in range(300)]
    path = tmp_path / "x.txt"
    path.write_text("\n".join(texts))
    split, made = read_sequences(path, held_out=0.3, seed=seed)
    train, held = rows(split.train, made), rows(split.held_out, made)
    assert sorted(train + held) == sorted(set(texts))
    assert len(held) == round(0.3 * len(set(texts)))
    again, _ = read_sequences(path, held_out=0.3, seed=seed)
    other, _ = read_sequences(path, held_out=0.3, seed=seed + 1)
    assert again.fingerprint() == split.fingerprint() != other.fingerprint()


def test_longer_sequences_are_refused_or_left_out(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(CSV)
    with pytest.raises(ValueError, match="line 5: a sequence of 5 symbols, and length is 4: raise"):
        read_sequences(path, length=4)
    split, made = read_sequences(path, length=4, longer="drop", split="part")
    assert rows(split.train, made) == ["MKV", "MKVL"]
    assert rows(split.held_out, made) == ["MK", "W"]
    assert split.notes == ("1 sequences have more than 4 symbols",)
    assert made.length == 4
    assert made.symbols == ("K", "L", "M", "V", "W")
    assert read_sequences(path, length=9)[1].length == 9


def test_other_sequences_are_read_by_a_vocabulary_that_is_there(tmp_path):
    path = tmp_path / "x.fa"
    path.write_text(FASTA)
    made = Symbols("ACDEFGHIKLMNPQRSTVWY", 7)
    split, same = read_sequences(path, vocabulary=made)
    assert same is made
    assert split.train.sizes == (21,) * 7
    with pytest.raises(ValueError, match="line 7: 'G', symbol 1, is none of the 4 symbols"):
        read_sequences(path, vocabulary=Symbols("MKVW", 7))
    with pytest.raises(ValueError, match="line 7: a sequence of 5 symbols, and length is 4"):
        read_sequences(path, vocabulary=Symbols("ACDEFGHIKLMNPQRSTVWY", 4))
    with pytest.raises(ValueError, match="the vocabulary is not of symbols"):
        read_sequences(path, vocabulary=Numbers(3, 3))


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.int16, bool])
def test_rows_of_numbers(tmp_path, kind):
    path = tmp_path / "x.npy"
    numbers = np.array([[0, 1, 1], [1, 0, 0], [0, 1, 1], [1, 1, 1]]).astype(kind)
    np.save(path, numbers)
    split, made = read_sequences(path)
    assert made.sizes == split.train.sizes == (2, 2, 2)
    found = rows(split.train, made) + rows(split.held_out, made)
    assert sorted(found) == [[0, 1, 1], [1, 0, 0], [1, 1, 1]]
    assert split.notes == ("1 sequences equal another one",)
    assert read_sequences(path, vocabulary=Numbers(5, 3))[0].train.sizes == (5, 5, 5)
    for other in (Numbers(1, 3), Numbers(2, 4)):
        with pytest.raises(ValueError, match="has rows of 3 numbers up to 1, and the vocabulary"):
            read_sequences(path, vocabulary=other)
    with pytest.raises(ValueError, match="holds rows of numbers, and the vocabulary is not"):
        read_sequences(path, vocabulary=Symbols("ab", 3))
    with pytest.raises(ValueError, match="not for arrays"):
        read_sequences(path, length=3)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.array([[0, -1]]), "holds -1: classes are numbered"),
        (np.array([[0, 1 << 16]]), "holds 65536: classes are numbered"),
        (np.array([[0, np.iinfo(np.uint64).max]], dtype=np.uint64), "classes are numbered"),
        (np.array([[0.0, 1.0]]), "holds float64, and classes are whole numbers"),
        (np.array([["a", "b"]]), "holds <U1, and classes are whole numbers"),
        (np.array([0, 1]), r"must have shape \(N, T\), a sequence a row, got \(2,\)"),
        (np.zeros((0, 3), int), "must have shape"),
        (np.zeros((3, 3), int), "holds one value only, 0"),
        (np.array([[0, 1], [0, 1]]), "has 1 usable sequence"),
    ],
)
def test_what_are_no_rows_of_numbers_is_refused(tmp_path, array, told):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=told):
        read_sequences(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("name", "data", "options", "told"),
    [
        ("x.txt", b"", {}, "holds no sequence"),
        ("x.txt", b"\n \n", {}, "holds no sequence"),
        ("x.txt", b"ab\nab\n", {}, "has 1 usable sequences, at least 2"),
        ("x.txt", b"aa\na\n", {}, "one symbol only, 'a'"),
        ("x.txt", b"ab\n\xe9\n", {}, r"x\.txt, line 2: byte 0xe9 is not UTF-8"),
        ("x.txt", b"ab\ncd", {"column": "a"}, "has no columns"),
        ("x.txt", b"ab\ncd", {"split": "a"}, "has no columns"),
        ("x.txt", b"ab\ncd", {"length": 1, "longer": "drop"}, "no usable sequence"),
        ("x.txt", b"ab\ncd", {"length": 0}, "length at least 1"),
        ("x.txt", b"ab\ncd", {"held_out": 1}, "held_out must be between"),
        ("x.txt", b"ab\ncd", {"spelling": "words"}, "spelling must be auto"),
        ("x.txt", b"ab\ncd", {"longer": "cut"}, "longer refuse or drop"),
        ("x.smi", b"CCO a\nCXO b\n", {}, "line 2: 'X', character 2, begins no symbol of SMILES"),
        (
            "x.smi",
            b"smiles id\nCCO a\n",
            {},
            "line 1: 'm', .*: if this line is a header, remove it",
        ),
        ("x.smi", b"CCO a\nCXO b\n", {}, "begins no symbol of SMILES$"),
        ("x.smi", b"CCO a\nC[NO b\n", {}, r"line 2: '\[', character 2, begins no symbol"),
        ("x.fa", b"", {}, "holds no sequence"),
        ("x.fa", b"MKV\n>a\nMK\n", {}, "line 1: no record begins with '>' before it"),
        ("x.fa", b">a\nMKV\n>b\n>c\nMK", {}, "line 3: a record without a sequence"),
        ("x.fa", b">a\nMKV\n>b\n\n", {}, "line 3: a record without a sequence"),
        ("x.csv", b"", {}, "is empty"),
        ("x.csv", b"a,b\n", {"column": "a"}, "holds no sequence"),
        ("x.csv", b"a,b\nMK,1\n", {}, "say which column holds the sequences; there are a, b"),
        ("x.csv", b"a,b\nMK,1\n", {"column": "c"}, "no 'c'; there are a, b"),
        ("x.csv", b"a,b\nMK,1\n", {"column": "a", "split": "c"}, "has no column 'c'; it has a, b"),
        ("x.csv", b"a;b\nMK;1\nVK;2", {}, "has semicolons or tabs between its cells"),
        ("x.txt", b">a\nMK\n>b\nVK", {}, r"call such a file \.fasta"),
        ("x.csv", b"a,a\nMK,1\n", {"column": "a"}, "two columns 'a'"),
        ("x.csv", b"a,b\nMK,1\nMK\n", {"column": "a"}, "line 3: 1 cells, and 2 names"),
        ("x.csv", b"a,b\nMK,1\nVK,2\n", {"column": "a", "split": "b"}, "line 2: '1' in the column"),
        ("x.csv", b"a,b\nMK,test\nVK,test\n", {"column": "a", "split": "b"}, "no sequence of its"),
        ("x.csv.gz", b"no gzip", {}, "cannot be read"),
        ("x.npy", b"no array", {}, "cannot be read"),
        ("x.npy.gz", b"", {}, "sequences are read from"),
        ("x.pdb", b"", {}, r"sequences are read from \.fasta, .*all but the last with \.gz too"),
    ],
)
def test_what_holds_no_sequences_is_refused_in_a_line(tmp_path, name, data, options, told):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=told) as error:
        read_sequences(tmp_path / name, **options)
    assert "\n" not in str(error.value)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.fa"):
        read_sequences(tmp_path / "none.fa")
    with pytest.raises(ValueError, match="sequences are read from"):
        read_sequences(tmp_path)


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read"):
        read_sequences(tmp_path / "x.npy")


@pytest.mark.skipif(not SHARED.exists(), reason="real molecules are not here: set NOISELOOM_DATA")
def test_real_molecules():
    path = SHARED / "zinc250k_jtvae_valid.smi.gz"
    split, made = read_sequences(path)
    with gzip.open(path, "rt") as file:
        lines = {line.split()[0] for line in file}
    assert set(rows(split.train, made)) | set(rows(split.held_out, made)) == lines
    assert {"Cl", "Br", "[nH]", "[C@@H]"} < set(made.symbols)
    path = SHARED / "esol_delaney_processed.csv.gz"
    split, made = read_sequences(path, length=40, longer="drop")
    assert len(split.notes) == 2
    assert made.sizes == (len(made.symbols) + 1,) * 40
