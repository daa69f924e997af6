"""Captions against references: the papers' own examples, and cases worked out by hand."""

import math

import pytest
import torch

from noiseloom.data.scenes import holds, random_scenes
from noiseloom.metrics import (
    bleu,
    caption_report,
    cider,
    distinct_captions,
    exact_match,
    invalid_codes,
    rouge_l,
    true_share,
)
from noiseloom.rng import Rng

# K. Papineni et al., 2002, examples 1 and 2.
GUIDE = (
    "It is a guide to action which ensures that the military always obeys the commands of the "
    "party."
)
TROOPS = "It is to insure the troops forever hearing the activity guidebook that party direct."
ACTION = [
    "It is a guide to action that ensures that the military will forever heed Party commands.",
    "It is the guiding principle which guarantees the military forces always being under the "
    "command of the Party.",
    "It is the practical guide for the army always to heed the directions of the party.",
]
MAT = ["The cat is on the mat.", "There is a cat on the mat."]


def test_bleu_has_the_precisions_of_its_paper():
    # Candidate 1 has 18 words, as the second reference has: no penalty.
    assert bleu([GUIDE], [ACTION], n=1)[0] == pytest.approx(17 / 18)
    assert bleu([GUIDE], [ACTION], n=2)[0] == pytest.approx(math.sqrt(17 / 18 * 10 / 17))
    # Candidate 2 has 14, and the nearest references 16.
    penalty = math.exp(1 - 16 / 14)
    assert bleu([TROOPS], [ACTION], n=1)[0] == pytest.approx(penalty * 8 / 14)
    assert bleu([TROOPS], [ACTION], n=2)[0] == pytest.approx(penalty * math.sqrt(8 / 14 * 1 / 13))
    assert bleu(["the the the the the the the"], [MAT], n=1)[0] == pytest.approx(2 / 7)
    assert bleu(["the the the the the the the"], [MAT], n=2)[0] == 0


def test_bleu_is_of_the_corpus_by_hand():
    """a b c d e f of a b c d e g: 5/6, 4/5, 3/4, 2/3. x y z of x y: 2/3, 1/2, 0/1, 0/0.

    Together 7/9, 5/7, 3/5, 2/3; 9 words for 8. Of references of 2 and 4 words for 3 the shorter
    one counts.
    """
    captions, references = ["a b c d e f", "x y z"], [["a b c d e g"], ["x y", "y u v w"]]
    expected = (7 / 9 * 5 / 7 * 3 / 5 * 2 / 3) ** 0.25
    assert bleu(captions, references)[0] == pytest.approx(expected)
    shorter = bleu(["a b c d", "x"], [["a b c d e g"], ["x"]])[0]
    assert shorter == pytest.approx(math.exp(1 - 7 / 5))  # all 5, 3, 2, 1 k-grams are there


def test_bleu_is_1_of_references_0_of_nothing_and_does_not_smooth():
    texts = ["a red cat sits here", "two dogs run over a hill"]
    assert bleu(texts, [[text] for text in texts])[0] == 1
    assert bleu(["", ""], [[text] for text in texts])[0] == 0
    assert bleu(["a red cat", "two dogs run"], [[text] for text in texts])[0] == 0


def test_errors_of_bleu_are_those_of_the_jackknife():
    scenes = random_scenes(40, 3, Rng(0))
    captions, references = [t[0] for _, t in scenes], [t[1:] for _, t in scenes]
    score, error = bleu(captions, references, n=2)
    without = [
        bleu(captions[:i] + captions[i + 1 :], references[:i] + references[i + 1 :], n=2)[0]
        for i in range(40)
    ]
    mean = sum(without) / 40
    expected = math.sqrt(39 / 40 * sum((w - mean) ** 2 for w in without))
    assert error == pytest.approx(expected)
    assert math.isnan(bleu(captions[:1], references[:1])[1])
    assert 0 < error < score


def test_rouge_l_has_the_examples_of_its_paper():
    reference = ["police killed the gunman"]
    assert rouge_l(["police kill the gunman"], [reference], beta=1)[0] == pytest.approx(3 / 4)
    assert rouge_l(["the gunman kill police"], [reference], beta=1)[0] == pytest.approx(2 / 4)
    # Lin's w1 ... w5: w1 w2 w6 w7 w8 and w1 w3 w8 w9 w5 share two and three of them in order.
    assert rouge_l(["1 2 6 7 8"], [["1 2 3 4 5"]], beta=1)[0] == pytest.approx(2 / 5)
    assert rouge_l(["1 3 8 9 5"], [["1 2 3 4 5"]], beta=1)[0] == pytest.approx(3 / 5)


def test_rouge_l_by_hand():
    """a b c of a x b y: R = 2/4, P = 2/3; of c c c a: R = 1/4, P = 1/3. The largest of each."""
    expected = (1 + 1.44) * (2 / 4) * (2 / 3) / (2 / 4 + 1.44 * 2 / 3)
    assert rouge_l(["a b c"], [["a x b y", "c c c a"]])[0] == pytest.approx(expected)
    score, error = rouge_l(["a b", "u v"], [["a b"], ["x y"]])
    assert score == 0.5
    assert error == pytest.approx(0.5)  # of 1 and 0: sqrt(1/2) / sqrt(2)
    assert rouge_l([""], [["a"]])[0] == 0


def test_cider_by_hand():
    """All words are in one picture's references, so weights are ln 2, or in both ("a"): 0.

    "a red cat" is its reference: cosines 1, 1, 1 and, without 4-grams, 0. "a red dog" of
    "a blue dog": of words 1/2 (red, dog; blue, dog), and no longer k-gram in common.
    """
    captions, references = ["a red cat", "a red dog"], [["a red cat"], ["a blue dog"]]
    expected = [3 / 4, 1 / 8]
    score, error = cider(captions, references)
    assert score == pytest.approx(sum(expected) / 2)
    assert error == pytest.approx((expected[0] - expected[1]) / 2)
    # Without repeated words and of equal lengths, -D is ten times as large.
    assert cider(captions, references, penalised=True)[0] == pytest.approx(10 * score)


def test_cider_weighs_words_by_how_rare_they_are():
    """Three pictures; "dog" is in the references of two: ln 3/2. "red", "blue" and "cat": ln 3.

    A word of no reference counts as if it were in one.
    """
    references = [["red dog"], ["blue dog"], ["cat", "a cat"]]
    captions = ["big dog", "blue dog", "cat"]
    rare, common = math.log(3), math.log(3 / 2)
    first = common**2 / (rare**2 + common**2) / 4
    third = (1 + 1 / math.sqrt(2)) / 2 / 4  # "cat" of "cat", and of "a cat"
    assert cider(captions, references)[0] == pytest.approx((first + 2 / 4 + third) / 3)


def test_cider_d_clips_and_penalises():
    """dog dog dog of blue dog: shares 1 of (1/2, 1/2), clipped to 1/2: 1/4 / (1 sqrt(1/2)).

    As counts 3 of (1, 1), clipped to 1: 1 / (3 sqrt(2)). One word longer: exp(-1/72). Times 10,
    and a quarter, as there are no longer k-grams in common. The other picture's is of one word.
    """
    captions, references = ["dog dog dog", "cat"], [["blue dog"], ["bird"]]
    penalty = 10 * math.exp(-1 / 72) / 4 / 2
    shares = cider(captions, references, penalised=True)[0]
    assert shares == pytest.approx(penalty * math.sqrt(2) / 4)
    counts = cider(captions, references, penalised=True, counts=True)[0]
    assert counts == pytest.approx(penalty / (3 * math.sqrt(2)))
    assert cider(captions, references)[0] == pytest.approx(1 / math.sqrt(2) / 4 / 2)
    # Longer captions are worth less the farther off they are: four words, two of them known.
    far = cider(["x y blue dog", "cat"], references, penalised=True, sigma=1.0)[0]
    near = cider(["x y blue dog", "cat"], references, penalised=True, sigma=1e9)[0]
    assert far / near == pytest.approx(math.exp(-2))


def test_cider_of_references_is_its_largest():
    scenes = random_scenes(30, 1, Rng(0), 3, 5)
    captions = [texts[0] for _, texts in scenes]
    references = [[text] for text in captions]
    assert all(len(text.split()) > 3 for text in captions)
    assert cider(captions, references)[0] == pytest.approx(1)
    assert cider(captions, references, penalised=True)[0] == pytest.approx(10)
    assert cider(["no", "cat"], [["bird"], ["dog"]])[0] == 0
    assert cider(["bird"], [["bird"]])[0] == 0  # of one picture all weights are 0


def test_shares_by_hand():
    captions = ["A cat.", "a dog", "a cat", ""]
    references = [["a cat"], ["two dogs", "a dog"], ["a bird"], ["!"]]
    assert exact_match(captions, references)[0] == 0.5
    assert distinct_captions(captions) == 0.75
    answers = {0: True, 1: False, 2: None, 3: True}
    share, error = true_share(captions, lambda i, text: answers[i])
    assert share == 0.5
    assert error == pytest.approx(math.sqrt(1 / 3) / 2)


def test_invalid_codes_by_hand():
    tokens = torch.tensor([[0, 1, 3], [3, 3, 3], [0, 3, 1], [0, 1, 2], [0, 4, 3]])
    found = invalid_codes(tokens, classes=4, end=3)
    shares = {key: value for key, value in found.items() if not key.endswith("_se")}
    assert shares == {"invalid": 0.2, "ragged": 0.2, "empty": 0.2, "unended": 0.2}
    assert found["invalid_se"] == pytest.approx(math.sqrt(0.2) / math.sqrt(5))


def test_a_report_of_scenes_tells_captions_of_the_picture_from_those_of_another():
    scenes = random_scenes(200, 6, Rng(0))
    held = [(scene, texts[1:]) for scene, texts in scenes]
    right = [texts[0] for _, texts in scenes]

    def truth(row, text):
        return holds(held[row][0], text)

    references = [texts for _, texts in held]
    tokens = torch.zeros(200, 4, dtype=torch.int64)
    found = caption_report(
        right, references, Rng(1), truth=truth, tokens=tokens, classes=60, end=59,
        train=[right[0], "nothing"],
    )  # fmt: skip
    assert found["n"] == 200
    assert found["true"] == found["true_held_out"] == found["sentence_elsewhere"] == 1
    assert found["true_elsewhere"] < 0.2
    assert found["known"] >= 1 / 200
    assert found["unended"] == 1
    for name in ("bleu_4", "cider", "cider_d", "rouge_l"):
        assert found[name] > found[f"{name}_elsewhere"] + 2 * found[f"{name}_se_elsewhere"]
        # A real caption is as good as another one: to errors, and for a reference less.
        gap = found[name] - found[f"{name}_held_out"]
        assert abs(gap) < 5 * math.hypot(found[f"{name}_se"], found[f"{name}_se_held_out"])
    wrong = caption_report(["a cat"] * 200, references, Rng(1), truth=truth)
    assert wrong["true"] == wrong["sentence"] == wrong["bleu_4"] == 0
    assert wrong["different"] == 1 / 200
    assert "known" not in wrong
    assert "invalid" not in wrong


def test_what_holds_anywhere_is_true_and_says_nothing_of_the_picture():
    scenes = random_scenes(100, 2, Rng(3))
    references = [texts for _, texts in scenes]

    def truth(row, text):
        return holds(scenes[row][0], text)

    blind = caption_report(["there is a shape"] * 100, references, Rng(1), truth=truth)
    assert blind["true"] == blind["true_of_another"] == 1
    assert blind["true_beyond"] == blind["true_beyond_se"] == 0
    right = caption_report([texts[0] for texts in references], references, Rng(1), truth=truth)
    assert right["true_of_another"] == right["true_elsewhere"]
    assert right["true_beyond"] == pytest.approx(1 - right["true_elsewhere"])
    assert right["true_beyond_held_out"] == right["true_beyond"]
    # Half of the captions are of the picture, and half hold anywhere.
    half = [texts[0] if i % 2 else "there is a shape" for i, texts in enumerate(references)]
    some = caption_report(half, references, Rng(1), truth=truth)
    assert some["true"] == 1
    assert 0 < some["true_beyond"] < right["true_beyond"]
    one = caption_report(["there is a shape"], references[:1], Rng(1), truth=truth)
    assert "true_of_another" not in one


def test_another_pictures_caption_is_never_ones_own():
    references = [[f"word{i}", f"word{i}"] for i in range(7)]
    found = caption_report([r[0] for r in references], references, Rng(0))
    assert found["exact"] == found["exact_held_out"] == 1
    assert found["exact_elsewhere"] == 0
    assert found["different_elsewhere"] == 1
    alone = caption_report(["a b"], [["a b"]], Rng(0))
    assert alone["exact"] == 1
    assert "cider" not in alone
    assert "bleu_4_held_out" not in alone


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bleu([], []), "got 0 and those of 0"),
        (lambda: rouge_l(["a"], []), "got 1 and those of 0"),
        (lambda: cider(["a", "b"], [["a"], []]), "caption 2 has no reference"),
        (lambda: distinct_captions([]), "no captions"),
        (lambda: caption_report(["a"], [["a"], ["b"]], Rng(0)), "got 1 and 2"),
        (
            lambda: caption_report(["a"], [["a"]], Rng(0), tokens=torch.zeros(1, 2)),
            "number of classes and the end",
        ),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
