import pytest
import torch

from noiseloom.data import digits
from noiseloom.metrics import expected_coverage, image_report, noised
from noiseloom.metrics.digit_classifier import DigitClassifier
from noiseloom.recipes import (
    BitsCifar10,
    BitsDigits,
    BitsImages,
    DiscoDigits,
    DiscoImages,
    bits_digits,
    picture_folder,
)
from noiseloom.rng import Rng


@pytest.fixture(scope="module")
def parts():
    return DigitClassifier.shipped(), digits()


def test_real_pictures_as_samples_score_like_the_anchor(parts):
    classifier, split = parts
    report = image_report(classifier, split.held_out.pixels, split.train, split.held_out, Rng(0))
    assert report["n"] == 360
    for key in ("precision", "recall", "density", "coverage", "nearest"):
        assert report[key] == pytest.approx(report[f"{key}_held_out"])
    assert report["fd_digits"] == pytest.approx(report["fd_digits_held_out"], rel=1e-3)
    assert report["memorised"] <= 0.02
    assert report["coverage_held_out"] == pytest.approx(expected_coverage(360, 1437), abs=0.1)


def test_noise_is_worse_in_every_way_and_copies_are_caught(parts):
    classifier, split = parts
    report = image_report(classifier, split.train.pixels, split.train, split.held_out, Rng(0))
    for key in ("kid_digits", "fd_digits", "nearest"):
        assert report[f"{key}_noised"] > report[f"{key}_held_out"]
    for key in ("precision", "density", "coverage"):
        assert report[f"{key}_noised"] < report[f"{key}_held_out"]
    assert report["memorised"] == 1
    assert report["nearest"] == 0


def test_mirrored_copies_are_copies_where_training_mirrors(parts):
    classifier, split = parts
    copies = split.train.pixels.flip(-1)
    plain, mirrored = (
        image_report(classifier, copies, split.train, split.held_out, Rng(0), mirrored=either)
        for either in (False, True)
    )
    assert plain["nearest"] > plain["nearest_held_out"]
    assert plain["memorised"] < 0.2  # digits that are all but symmetric
    assert mirrored["nearest"] == 0
    assert mirrored["memorised"] == 1
    # The anchors are held against as many pictures, and nothing else is.
    for anchor in ("_held_out", "_noised"):
        assert mirrored[f"nearest{anchor}"] <= plain[f"nearest{anchor}"]
    seen = {"nearest", "nearest_held_out", "nearest_noised", "memorised"}
    assert mirrored.keys() == plain.keys()
    assert all(mirrored[key] == plain[key] for key in plain.keys() - seen)
    held = split.held_out.pixels
    found = image_report(classifier, held, split.train, split.held_out, Rng(0), mirrored=True)
    assert found["memorised"] == pytest.approx(0.01, abs=0.005)
    assert found["nearest"] == pytest.approx(found["nearest_held_out"])


@pytest.mark.parametrize("kind", [BitsDigits, DiscoDigits, BitsImages, DiscoImages, BitsCifar10])
@pytest.mark.parametrize("flip", [False, True])
def test_recipes_say_whether_they_mirror(parts, monkeypatch, kind, flip):
    told = []

    def report(*_, mirrored):
        told.append(mirrored)
        return {}

    for module in (bits_digits, picture_folder):
        monkeypatch.setattr(module, "image_report", report)
    monkeypatch.setattr(picture_folder, "photograph_features", lambda: None)
    recipe = kind(flip=flip, samples=4)
    recipe.evaluate(lambda labels: parts[1].train.pixels[: len(labels)], parts[1], Rng(0))
    assert told == [flip]


def test_is_a_function_of_its_key_and_leaves_out_what_has_too_few_rows(parts):
    classifier, split = parts
    samples = noised(split.train.pixels[:100], 16, 0.05, Rng(1))
    first = image_report(classifier, samples, split.train, split.held_out, Rng(0))
    assert first == image_report(classifier, samples, split.train, split.held_out, Rng(0))
    assert first["n"] == 100
    assert not any(key.startswith("fd_") for key in first)  # 100 < 2 x 64
    small = image_report(classifier, samples, split.train, split.held_out, Rng(0), allow_small=True)
    assert {"fd_digits", "fd_digits_held_out", "fd_digits_noised"} <= small.keys()


def test_noise_has_its_size_and_stays_in_range():
    pixels = torch.full((50, 1, 20, 20), 128, dtype=torch.uint8)
    x = noised(pixels, 256, 0.1, Rng(0)).double()
    assert x.std() == pytest.approx(25.5, rel=0.03)
    assert noised(pixels.fill_(15), 16, 1.0, Rng(0)).max() == 15


def test_other_shapes_are_refused(parts):
    classifier, split = parts
    with pytest.raises(ValueError, match=r"\(9, 3, 8, 8\) do not fit .* \(1437, 1, 8, 8\)"):
        image_report(classifier, torch.zeros(9, 3, 8, 8, dtype=torch.uint8), *_sides(split), Rng(0))


def _sides(split):
    return split.train, split.held_out
