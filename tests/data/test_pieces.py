"""Pieces of words by a trained model: text to ids and back, also of files and larger ones."""

import io
import json
import random
import sys

import pytest
import torch

from noiseloom.data import Pieces, read_text, template, text_files, vocabulary

WORDS = ["the", "best", "of", "times", "worst", "was", "it", "then", "timely", "restless"]


def text_of(seed, words, end="\n"):
    draw = random.Random(seed)
    return "".join(draw.choice(WORDS) + draw.choice([" ", " ", " ", end]) for _ in range(words))


def trained(size=60, **options):
    """A model of at most so many pieces."""
    spm = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(text_of(0, 3000).split("\n")), model_writer=model,
        vocab_size=size, hard_vocab_limit=False, minloglevel=2, **options,
    )  # fmt: skip
    return model.getvalue()


@pytest.fixture(scope="module")
def plain():
    """No piece for the end of a line."""
    return trained()


@pytest.fixture(scope="module")
def lines():
    """A piece for the end of a line."""
    return trained(user_defined_symbols=["\n"])


@pytest.fixture(scope="module")
def bytewise():
    """Bytes for what no piece has, and text as it is."""
    return trained(320, byte_fallback=True, normalization_rule_name="identity")


@pytest.mark.parametrize("name", ["lines", "bytewise"])
def test_texts_come_back(name, request):
    made = Pieces(request.getfixturevalue(name))
    for seed in range(60):
        row = "\n".join(line.strip() for line in text_of(seed, 12).split("\n")).strip()
        tokens = made.encode([row])
        assert tokens.dtype == torch.int64
        assert (tokens < made.sizes[0]).all()
        assert made.decode(tokens) == [row]


def test_bytes_stand_for_all_characters(bytewise):
    made = Pieces(bytewise)
    draw = random.Random(0)
    for _ in range(100):
        row = "".join(draw.choices("abcé字\U0001f600\n", k=draw.randrange(1, 20)))
        assert made.decode(made.encode([row])) == [row]


def test_lines_end_in_spaces_without_a_piece_for_it(plain):
    made = Pieces(plain)
    assert made.decode(made.encode(["the best\nof times"])) == ["the best of times"]


def test_facts_hold_all_of_the_model(lines):
    made = Pieces(lines)
    again = vocabulary(json.loads(json.dumps(made.facts())))
    assert again.sizes == made.sizes
    assert again.encode(["the timely\nbest"]).equal(made.encode(["the timely\nbest"]))
    with pytest.raises(ValueError, match="pieces are damaged"):
        vocabulary({"kind": "pieces", "model": made.facts()["model"][:-8]})
    with pytest.raises(ValueError, match="pieces are damaged: 'model' is missing"):
        vocabulary({"kind": "pieces"})


def test_what_no_piece_has_is_refused(lines):
    made = Pieces(lines)
    with pytest.raises(ValueError, match=r"row 2: 'é' is in none of the \d+ pieces"):
        made.encode(["the", "thé"])
    with pytest.raises(ValueError, match="row 2 has 2 pieces, and row 1 has 1"):
        made.encode(["the", "the the"])
    assert made.encode([]).shape[0] == 0


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("chunk", [5, 64, 1 << 20])
@pytest.mark.parametrize("name", ["plain", "lines", "bytewise"])
def test_files_are_read_as_one_text(tmp_path, monkeypatch, request, name, chunk, cached):
    monkeypatch.setattr(text_files, "CHUNK", chunk)
    monkeypatch.setattr("noiseloom.data.text.CHUNK", chunk)
    model, path = tmp_path / "x.model", tmp_path / "x.txt"
    model.write_bytes(request.getfixturevalue(name))
    text = text_of(1, 400)
    path.write_text(text)
    options = {"cache": tmp_path / "c"} if cached else {}
    split, made = read_text(path, 8, alphabet=str(model), **options)
    tokens = torch.cat([part.tensors()[0].long() for part in (split.train, split.held_out)])
    if chunk > 60:  # else words are cut, as the lines are longer than a piece
        assert tokens.tolist() == made.tokens(text).tolist()
    words = made.decode(tokens[None])[0].split()
    assert words == text.split() or chunk < 60
    assert split.train.sizes == made.sizes * 8
    again, _ = read_text(path, 8, vocabulary=made, **options)
    assert again.fingerprint() == split.fingerprint()


def test_characters_without_a_piece_are_noted(tmp_path, plain):
    (tmp_path / "x.model").write_bytes(plain)
    (tmp_path / "x.txt").write_text("the é of times\n" * 20 + "ß", encoding="utf-8")
    for _ in range(2):  # written, and read again
        split, _ = read_text(
            tmp_path / "x.txt", 3, alphabet=str(tmp_path / "x.model"), cache=tmp_path
        )
        assert split.notes == ("21 tokens stand for characters that are in none of the pieces",)


def test_templates_have_gaps_between_words(lines):
    made = Pieces(lines)
    tokens, known = template("the _ of", made, length=4)
    assert known.tolist() == [True, False, True, False]
    assert made.decode(tokens[known][None]) == ["the of"]
    with pytest.raises(ValueError, match="the template has 3 tokens, and 2 are the most"):
        template("the _ of", made, length=2)
    with pytest.raises(ValueError, match="the vocabulary has 't' itself"):
        template("the", made, gap="t")


def test_what_is_no_model_is_named(tmp_path):
    pytest.importorskip("sentencepiece")
    (tmp_path / "x.model").write_bytes(b"no model")
    (tmp_path / "x.txt").write_text("the best")
    with pytest.raises(ValueError, match=r"x\.model is no model of sentencepiece") as error:
        read_text(tmp_path / "x.txt", 2, alphabet=str(tmp_path / "x.model"))
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.model"):
        read_text(tmp_path / "x.txt", 2, alphabet=str(tmp_path / "none.model"))


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r"pip install 'noiseloom\[text\]'"):
        Pieces(b"")
