"""Captions as tokens: each way to cut them and back, ends, unknown words, and what is refused."""

import json
import sys

import pytest
import torch

from noiseloom.data import vocabulary
from noiseloom.data.phrases import UNKNOWN, Phrases, caption_words
from noiseloom.data.scene_grammar import WORDS
from noiseloom.data.scenes import random_scenes
from noiseloom.rng import Rng

CAPTIONS = [
    "A man's semi-truck, parked.",
    "two dogs run over the hill",
    "two dogs sit (or lie) down",
    "the hill, without dogs",
]


@pytest.mark.parametrize("units", ["words", "characters", "pieces"])
def test_captions_come_back_and_so_does_their_vocabulary(units):
    made = Phrases.fit(CAPTIONS, units, 40, 60 if units == "pieces" else None)
    tokens = made.encode(CAPTIONS)
    assert tokens.shape == (4, 40)
    assert tokens.dtype == torch.int64
    assert made.sizes == (made.end + 1,) * 40
    assert int(tokens.max()) == made.end
    expected = CAPTIONS
    if units == "words":  # in lower case, with a space before what opens alone
        expected = [" ".join(caption_words(text, marks=True)) for text in CAPTIONS]
        expected = [text.replace(" ,", ",").replace(" .", ".") for text in expected]
        expected[2] = "two dogs sit ( or lie) down"
    assert made.decode(tokens) == expected
    assert (made.encode(made.decode(tokens)) == tokens).all()
    again = vocabulary(json.loads(json.dumps(made.facts())))
    assert again.symbols == made.symbols
    assert again.sizes == made.sizes
    assert (again.encode(CAPTIONS) == tokens).all()


def test_scenes_need_no_unknown_word_and_six_bits():
    made = Phrases("words", WORDS, 32)
    said = [text for _, texts in random_scenes(50, 4, Rng(0)) for text in texts]
    tokens = made.encode(said)
    assert made.decode(tokens) == said
    assert 32 < made.sizes[0] <= 64
    assert not made.is_unknown(tokens).any()
    with pytest.raises(ValueError, match="row 2: 'cat', word 4, is none of the 57 words"):
        made.encode(["there is a circle", "there is a cat"])


def test_a_caption_ends_at_its_first_end():
    made = Phrases("words", ("a", "cat", "dog"), 4)
    assert made.end == 3
    tokens = torch.tensor([[0, 1, 3, 2], [3, 0, 1, 2], [0, 1, 0, 2]])
    assert made.decode(tokens) == ["a cat", "", "a cat a dog"]
    assert made.encode(["a cat", "a cat a dog"]).tolist() == [[0, 1, 3, 3], [0, 1, 0, 2]]
    with pytest.raises(ValueError, match=r"tokens of captions are 0 .. 3, got 0 to 4"):
        made.decode(torch.tensor([[0, 4, 3, 3]]))


def test_frequent_words_have_the_small_classes_and_rare_ones_none():
    made = Phrases.fit(CAPTIONS, "words", 12, classes=6)
    # dogs 3; hill, the, two, "," 2 and so on, by the alphabet where equal.
    assert made.symbols == (UNKNOWN, "dogs", ",", "hill", "the")
    tokens = made.encode(["the dogs, a hill"])
    assert tokens[0, :6].tolist() == [4, 1, 2, 0, 3, 5]
    assert made.is_unknown(tokens).sum() == 1
    assert made.decode(tokens) == [f"the dogs, {UNKNOWN} hill"]
    letters = Phrases.fit(["aab", "ab"], "characters", 3)
    assert letters.symbols == (UNKNOWN, "a", "b")
    assert letters.encode(["abc"]).tolist() == [[1, 2, 0]]


def test_words_know_their_tokens():
    words = Phrases.fit(CAPTIONS, "words", 12)
    assert words.words(words.encode(["two dogs sit"])) == [
        [("two", 0, 1), ("dogs", 1, 2), ("sit", 2, 3)]
    ]
    letters = Phrases.fit(CAPTIONS, "characters", 12)
    assert letters.words(letters.encode(["two dogs"])) == [[("two", 0, 3), ("dogs", 3, 8)]]
    pieces = Phrases.fit(CAPTIONS, "pieces", 30, 60)
    tokens = pieces.encode(["two dogs sit"])
    found = pieces.words(tokens)[0]
    assert [word for word, _, _ in found] == ["two", "dogs", "sit"]
    ends = [end for _, _, end in found]
    assert [begin for _, begin, _ in found] == [0, *ends[:-1]]
    assert ends[-1] == int((tokens != pieces.end).sum())


@pytest.mark.parametrize("said", ["two Ω sit", "two Ωdogs", "Ω", "dogs ΩΩ"])
def test_what_no_piece_has_is_a_word_of_its_own_in_text_and_words(said):
    pieces = Phrases.fit(CAPTIONS, "pieces", 30, 60)
    tokens = pieces.encode([said])
    (text,), (found,) = pieces.decode(tokens), pieces.words(tokens)
    assert text == " ".join(said.replace("ΩΩ", "Ω").replace("Ω", " \u2047 ").split())
    assert " ".join(word for word, _, _ in found) == text
    assert [begin for _, begin, _ in found] == [0, *(end for _, _, end in found[:-1])]


def test_spaces_alone_are_no_words():
    pieces = Phrases.fit(CAPTIONS, "pieces", 30, 60)
    space, dog = pieces.symbols.index("\u2581"), pieces.encode(["dogs"])[0]
    tokens = torch.tensor([[space, space, *dog[dog != pieces.end].tolist(), space, pieces.end]])
    assert [word for word, _, _ in pieces.words(tokens)[0]] == ["dogs"] == pieces.decode(tokens)


def test_pieces_are_as_many_as_asked_for_or_as_there_are():
    said = [text for _, texts in random_scenes(200, 4, Rng(0)) for text in texts]
    assert Phrases.fit(said, "pieces", 64, 50).sizes[0] == 50
    few = Phrases.fit(CAPTIONS, "pieces", 64).sizes[0]
    assert 20 < few < 200
    unknown = Phrases.fit(CAPTIONS, "pieces", 64)
    assert unknown.is_unknown(unknown.encode(["two Ω"])).sum() == 1


def test_longer_captions_are_cut_only_when_asked():
    made = Phrases.fit(CAPTIONS, "words", 3)
    with pytest.raises(ValueError, match="row 1: a caption of 6 words, and 3 is the most"):
        made.encode(["two dogs run over the hill"])
    assert len(made.tokens("two dogs run over the hill", truncate=True)) == 3


@pytest.mark.parametrize("units", ["words", "characters", "pieces"])
def test_an_empty_caption_is_refused(units):
    made = Phrases.fit(CAPTIONS, units, 40, 60 if units == "pieces" else None)
    with pytest.raises(ValueError, match=r"captions\.csv, line 7: the caption is empty"):
        made.tokens("", "captions.csv, line 7")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Phrases("letters", "ab", 3), "words, characters or pieces, got 'letters'"),
        (lambda: Phrases("words", (), 3), "words need symbols alone"),
        (lambda: Phrases("pieces", (), 3), "pieces need a model alone"),
        (lambda: Phrases("words", ("a", "a"), 3), "'a' is there twice"),
        (lambda: Phrases("words", ("a b",), 3), "not one of words"),
        (lambda: Phrases("words", ("a",), 0), "length of 1 or more"),
        (lambda: Phrases.fit([], "words", 3), "needs captions"),
        (lambda: Phrases.fit(["a"], "words", 3, classes=2), "3 classes or more"),
        (lambda: Phrases.fit(["ab cd"], "pieces", 3, classes=4), "cannot learn 3 pieces"),
        (lambda: vocabulary({"kind": "captions", "units": "words"}), "'symbols' is missing"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_pieces_need_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r"noiseloom\[text\]"):
        Phrases.fit(CAPTIONS, "pieces", 3)
