"""Vocabularies: what is encoded comes back, what is not of them is refused, and JSON keeps them."""

import json
import random
import string

import numpy as np
import pytest
import torch

from noiseloom.data import Characters, Numbers, Symbols, Vocabulary, template, vocabulary
from noiseloom.data.characters import LETTERS, letters
from noiseloom.data.symbols import spelt
from noiseloom.data.templates import number_templates

SMILES = ["Br", "Cl", "C", "c", "N", "n", "B", "@@", "@", "[nH]", "[C@@H]", "[O-]", "%12", "%(123)",
          "(", ")", "=", "#", "1", "2", "/", "\\", "."]  # fmt: skip
WIDE = "aé\n\t 字\U0001f600\x00\u2581"

CASES = {
    "letters": (Characters(LETTERS), lambda draw: "".join(draw.choices(LETTERS, k=9))),
    "wide": (Characters(WIDE), lambda draw: "".join(draw.choices(WIDE, k=9))),
    "one": (Characters("x"), lambda draw: "x" * 9),
    "proteins": (
        Symbols("ACDEFGHIKLMNPQRSTVWY", 30),
        lambda draw: "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=draw.randrange(31))),
    ),
    "smiles": (
        Symbols(SMILES, 12, "smiles"),
        lambda draw: "".join(draw.choices(SMILES, k=draw.randrange(13))),
    ),
    "numbers": (Numbers(7, 5), lambda draw: [draw.randrange(7) for _ in range(5)]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_encoded_comes_back(name):
    made, draw = CASES[name]
    rows = [draw(random.Random(seed)) for seed in range(300)]
    tokens = made.encode(rows)
    assert tokens.dtype == torch.int64
    assert tokens.shape[0] == 300
    assert len(made.sizes) in (1, tokens.shape[1])
    assert (tokens >= 0).all()
    assert (tokens < torch.tensor(made.sizes)).all()
    assert made.decode(tokens) == rows
    assert made.decode(tokens.to(torch.int16)) == rows


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("smiles", "proteins")])
def test_all_tokens_have_a_row_of_their_own(name):
    made, _ = CASES[name]
    sizes = made.sizes * 9 if len(made.sizes) == 1 else made.sizes
    tokens = torch.stack([torch.randint(k, (100,)) for k in sizes], 1)
    assert made.encode(made.decode(tokens)).equal(tokens)


@pytest.mark.parametrize("name", CASES)
def test_facts_are_json_and_make_the_vocabulary_again(name):
    made, draw = CASES[name]
    again: Vocabulary = vocabulary(json.loads(json.dumps(made.facts())))
    rows = [draw(random.Random(seed)) for seed in range(20)]
    assert type(again) is type(made)
    assert again.sizes == made.sizes
    assert again.facts() == made.facts()
    assert again.encode(rows).equal(made.encode(rows))


@pytest.mark.parametrize("name", CASES)
def test_no_rows_are_no_tokens(name):
    made, _ = CASES[name]
    assert made.encode([]).shape[0] == 0
    assert made.decode(made.encode([])) == []


@pytest.mark.parametrize(
    ("name", "rows", "told"),
    [
        ("letters", ["abc", "aBc"], "row 2: 'B', character 2, is none of the 27 characters"),
        ("letters", ["abc", "ab"], "row 2 has 2 characters, and row 1 has 3"),
        ("wide", ["a\U0001f601"], "row 1: '\U0001f601', character 2, is none"),
        ("proteins", ["MKV", "MKX"], "row 2: 'X', symbol 3, is none of the 20 symbols"),
        ("proteins", ["A" * 31], "row 1 has 31 symbols, and 30 are the most"),
        ("smiles", ["C", "C[Fe]"], r"row 2: '\[Fe\]', symbol 2, is none of the 23 symbols"),
        ("smiles", ["C[nH"], r"row 1: '\[', character 2, begins no symbol of SMILES"),
        ("smiles", ["CClC l"], "row 1: ' ', character 5, begins no symbol of SMILES"),
        ("numbers", [[0, 1, 2, 3, 4], [0, 1, 2, 3, 7]], "row 2: 7 is no whole number of 0 .. 6"),
        ("numbers", [[0, 1, 2, 3, 0.5]], "row 1: 0.5 is no whole number"),
        ("numbers", [[0, 1, 2, 3, -1]], "row 1: -1 is no whole number"),
        ("numbers", [[0]], "row 1 has 1 numbers instead of 5"),
    ],
)
def test_what_is_not_of_a_vocabulary_is_refused_by_its_row(name, rows, told):
    with pytest.raises(ValueError, match=told) as error:
        CASES[name][0].encode(rows)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Characters(""), "at least one character"),
        (lambda: Characters("aba"), "must differ, got 'a' twice"),
        (lambda: Symbols([], 3), "need a symbol"),
        (lambda: Symbols(["a"], 0), "need a symbol and a length of 1"),
        (lambda: Symbols(["a", "a"], 3), "'a' is there twice"),
        (lambda: Symbols(["ab"], 3), "'ab' is there twice, or is not one symbol"),
        (lambda: Symbols(["CC"], 3, "smiles"), "'CC' is there twice, or is not one symbol"),
        (lambda: Symbols(["a"], 3, "words"), "characters or smiles, got 'words'"),
        (lambda: Numbers(0, 3), "must be at least 1"),
        (lambda: vocabulary({}), "no vocabulary is called None: there are captions, characters"),
        (lambda: vocabulary({"kind": "x"}), "no vocabulary is called 'x'"),
        (lambda: vocabulary({"kind": "characters"}), "characters are damaged: 'characters' is mis"),
        (lambda: vocabulary({"kind": "symbols", "symbols": 3, "length": 1}), "symbols are damaged"),
    ],
)
def test_what_is_no_vocabulary_is_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_symbols_after_the_first_end_do_not_count():
    made = Symbols("ab", 4)
    assert made.sizes == (3,) * 4
    assert made.encode(["ba", ""]).tolist() == [[1, 0, 2, 2], [2, 2, 2, 2]]
    assert made.decode(torch.tensor([[1, 2, 0, 2], [2, 0, 0, 0], [0, 0, 0, 0]])) == [
        "b",
        "",
        "aaaa",
    ]


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("ClCBr", ["Cl", "C", "Br"]),
        ("c1c[nH]cc1", ["c", "1", "c", "[nH]", "c", "c", "1"]),
        ("C[C@@H](N)C", ["C", "[C@@H]", "(", "N", ")", "C"]),
        ("C%12CC%12", ["C", "%12", "C", "C", "%12"]),
        ("C%(123)C", ["C", "%(123)", "C"]),
        ("[13CH3][N+](=O)[O-]", ["[13CH3]", "[N+]", "(", "=", "O", ")", "[O-]"]),
        ("F/C=C\\F.B", ["F", "/", "C", "=", "C", "\\", "F", ".", "B"]),
        ("C@@C@C", ["C", "@@", "C", "@", "C"]),
        ("", []),
    ],
)
def test_smiles_are_cut_into_symbols(text, symbols):
    assert spelt(text, "smiles") == symbols


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("", ""),
        ("Hello, World!", "hello world "),
        ("  a1b\n\né\tC ", " a b c "),
        ("À\u0130\u212a", " "),  # the last is the sign for Kelvin, whose lower case is k
        ("...", " "),
    ],
)
def test_letters_are_those_of_text8(text, folded):
    assert letters(text) == folded
    assert letters(folded) == folded


def test_letters_of_any_text_are_letters():
    draw = random.Random(0)
    for _ in range(200):
        text = "".join(draw.choices(string.printable + WIDE, k=draw.randrange(40)))
        found = letters(text)
        assert set(found) <= set(LETTERS)
        assert "  " not in found
        words = "".join(c if c in string.ascii_letters else " " for c in text).lower().split()
        assert found.split() == words


def test_a_template_says_what_is_known():
    made = Characters(LETTERS)
    tokens, known = template("the _at__", made)
    assert known.tolist() == [c != "_" for c in "the _at__"]
    assert made.decode(tokens[None])[0] == "the  at  "  # class 0, a space, where unknown
    tokens, known = template("a?", made, gap="?", length=4)
    assert tokens.tolist() == [1, 0, 0, 0]
    assert known.tolist() == [True, False, False, False]
    assert tokens.dtype == torch.int64
    assert known.dtype == torch.bool


def test_a_template_of_a_sequence_goes_on_or_ends():
    made = Symbols(SMILES, 6, "smiles")
    tokens, known = template("Cl_[nH]", made)
    assert known.tolist() == [True, False, True, False, False, False]
    tokens, known = template("Cl_[nH]", made, ends=True)
    assert known.tolist() == [True, False, True, True, True, True]
    assert made.decode(tokens[None].where(known, torch.tensor(2))) == ["ClC[nH]"]
    assert template("", made, ends=True)[1].all()
    assert not template("", made)[1].any()


@pytest.mark.parametrize("name", ["letters", "wide", "proteins", "smiles"])
def test_templates_of_rows_without_gaps_are_their_tokens(name):
    made, draw = CASES[name]
    for seed in range(50):
        row = draw(random.Random(seed))
        tokens, known = template(row, made, ends=isinstance(made, Symbols))
        row = made.folded(row) if isinstance(made, Characters) else row
        assert known.all()
        assert tokens.equal(made.encode([row])[0])


@pytest.mark.parametrize(
    ("text", "name", "options", "told"),
    [
        ("abc_", "letters", {"length": 3}, "the template has 4 tokens, and 3 are the most"),
        ("A_" * 16, "proteins", {}, "the template has 32 tokens, and 30 are the most"),
        ("aéC", "wide", {}, "the template: 'C', character 3, is none"),
        ("aé_C", "wide", {}, "the template after gap 1: 'C', character 1, is none"),
        ("ab", "letters", {"gap": "b"}, "the vocabulary has 'b' itself"),
        ("C", "smiles", {"gap": "H"}, "the vocabulary has 'H' itself"),
        ("ab", "letters", {"gap": "__"}, "a gap must be one character"),
        ("ab", "letters", {"gap": ""}, "a gap must be one character"),
        ("ab", "letters", {"ends": True}, "text has no end"),
        ("ab", "numbers", {}, "of text or sequences"),
    ],
)
def test_what_is_no_template_is_refused(text, name, options, told):
    with pytest.raises(ValueError, match=told) as error:
        template(text, CASES[name][0], **options)
    assert "\n" not in str(error.value)


GAPS = torch.tensor([[3, -1, -1, 6, -1], [-1, 0, -1, -1, -1]])


@pytest.mark.parametrize("form", ["npy", "csv", "txt"])
def test_templates_of_numbers_are_arrays_or_lines(tmp_path, form):
    path = tmp_path / f"gaps.{form}"
    if form == "npy":
        np.save(path, GAPS[:, :4].numpy())
    elif form == "csv":
        path.write_text("3,,_,6\n\n?, 0 ,-1\n")
    else:
        path.write_text("3,-1,-1,6,-1\n-1,0")
    tokens, known = number_templates(path, Numbers(7, 5))
    assert torch.equal(known, GAPS >= 0)
    assert torch.equal(tokens, GAPS.clamp_min(0))


def test_a_row_of_numbers_may_be_the_template_itself(tmp_path):
    tokens, known = number_templates("3,_,_,6", Numbers(7, 5))
    assert torch.equal(known, GAPS[:1] >= 0)
    assert torch.equal(tokens, GAPS[:1].clamp_min(0))
    assert number_templates("x,6", Numbers(7, 2), gap="x")[1].tolist() == [[False, True]]
    np.save(tmp_path / "one.npy", np.array([3, -1, 6], dtype=np.int8))
    assert number_templates(tmp_path / "one.npy", Numbers(7, 4))[1].tolist() == [
        [True, False, True, False]
    ]


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ("3,_,7", "row 1 of the template has 7, and the model's numbers are 0 to 6, -1 for a gap"),
        ("3,-2", "row 1 of the template has -2"),
        ("3,_,_,_,_,1", "row 1 of the template has 6 numbers, and 5 are the most the model makes"),
        ("3,x", "line 1: 'x' is no whole number: write 3,_,7 with gaps, or name a .npy"),
        ("3,1.5", "line 1: '1.5' is no whole number"),
        ("", "the template has no rows"),
        ([[0, 1], [2, 9]], "gaps.npy: row 2 of the template has 9"),
        ([[0.0, 1.0]], "gaps.npy: it holds float64, and a template whole numbers"),
        ([[[0, 1]]], r"gaps.npy: a template has shape \(N, n\), a row for each, got \(1, 1, 2\)"),
        ([], "gaps.npy: it holds float64"),
        (b"not an array", "gaps.npy: "),
    ],
)
def test_what_is_no_template_of_numbers_is_one_line(tmp_path, known, told):
    if not isinstance(known, str):
        path = tmp_path / "gaps.npy"
        if isinstance(known, bytes):
            path.write_bytes(known)
        else:
            np.save(path, np.array(known))
        known = path
    with pytest.raises(ValueError, match=told) as error:
        number_templates(known, Numbers(7, 5))
    assert "\n" not in str(error.value)


def test_templates_of_numbers_that_are_nowhere(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        number_templates(tmp_path / "none.npy", Numbers(7, 5))
    with pytest.raises(ValueError, match="one other character"):
        number_templates("3,-,1", Numbers(7, 5), gap="-")
