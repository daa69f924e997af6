"""The drift curve: statistics by hand, anchors, and the ways in which video goes wrong."""

import pytest
import torch
from torch.nn import functional

from noiseloom.metrics import Drift, frame_statistics, frechet, kid, noised
from noiseloom.rng import Rng

SIDE, COUNT, LENGTH = 16, 8, 90


class Toy:
    """Features of a picture: 3 means, their spread and two filters, 8 numbers in all."""

    name = "toy"
    dim = 8

    def __init__(self):
        self.seen = 0

    def __call__(self, pixels):
        self.seen += len(pixels)
        x = pixels.float() / 255
        edges = x.diff(dim=-1).abs().mean((1, 2, 3)), x.diff(dim=-2).abs().mean((1, 2, 3))
        return torch.cat((x.mean((2, 3)), x.std((2, 3)), torch.stack(edges, 1)), 1)


def real(key, count=COUNT, length=LENGTH):
    """Videos of moving waves, uint8, shape (count, length, 3, SIDE, SIDE)."""
    rng = Rng(1).fold("real", key)
    phase, speed, across = 6.3 * rng.uniform((3, count, 3, 1, 1, 1))
    t = torch.arange(length)[:, None, None, None]
    i, j = torch.arange(SIDE)[:, None], torch.arange(SIDE)
    colour = torch.arange(3)[:, None, None]
    waves = [
        (phase[:, k, None] + speed[:, k, None] * t + (0.4 + 0.1 * k) * i + across[:, k, None] * j)
        + colour * k
        for k in range(3)
    ]
    x = sum(torch.sin(wave) for wave in waves)
    return (127.5 + 40 * x).round().clamp(0, 255).byte()


@pytest.fixture(scope="module")
def train():
    return real(0, 40).flatten(0, 1)


@pytest.fixture(scope="module")
def drift(train):
    return Drift(Toy(), train, 200, Rng(0))


def blurred(videos):
    x = functional.avg_pool2d(videos.flatten(0, 1).float(), 3, 1, 1, count_include_pad=False)
    return x.round().byte().reshape(videos.shape)


def test_statistics_of_pictures_whose_are_known():
    """In a board of levels a, b a place differs by b - a from its four neighbours."""
    i, j = torch.arange(9)[:, None], torch.arange(9)
    board = (20 + 30 * ((i + j) % 2))[None]
    stripes = (20 + 30 * (j % 2)).expand(1, 9, 9)
    ramp = (10 * i + 5 * j)[None]
    video = torch.stack((board, stripes, ramp, ramp, torch.full((1, 9, 9), 7))).byte()[None]
    found = frame_statistics(video)
    odd = 25 / 49 * 24 / 49  # p (1 - p) of 7 x 7 places, whose values lie 2 * 4 * 30 apart
    stripe = 4 / 7 * 3 / 7
    exact = [240**2 * odd, 120**2 * stripe, 0, 0, 0]
    assert found["sharpness"][0].tolist() == pytest.approx(exact)
    means = video[0].double().mean((1, 2, 3))
    assert found["mean"][0].tolist() == pytest.approx(means.tolist())
    assert found["std"][0, [0, 4]].tolist() == pytest.approx([30 * (41 / 81 * 40 / 81) ** 0.5, 0])
    changes = (video[0, 1:].double() - video[0, :-1].double()).abs().mean((1, 2, 3))
    assert found["change"][0].tolist() == pytest.approx([0, *changes.tolist()])
    assert found["change"][0, 3] == 0  # frozen


def test_sharpness_is_that_of_luma():
    grey = Rng(0).integers(256, (2, 3, 1, 8, 8)).byte()
    same = frame_statistics(grey.expand(-1, -1, 3, -1, -1))["sharpness"]
    assert torch.allclose(same, frame_statistics(grey)["sharpness"], rtol=1e-5)
    for colour, weight in enumerate((0.299, 0.587, 0.114)):
        one = torch.zeros(2, 3, 3, 8, 8, dtype=torch.uint8)
        one[:, :, colour] = grey[:, :, 0]
        found = frame_statistics(one)["sharpness"]
        assert torch.allclose(found, weight**2 * same, rtol=1e-4)


def test_statistics_do_not_depend_on_how_many_are_taken_at_a_time(monkeypatch):
    videos = real(2, 3, 40)
    whole = frame_statistics(videos)
    monkeypatch.setattr("noiseloom.metrics.drift._AT_A_TIME", 21)
    for name, value in frame_statistics(videos).items():
        assert torch.equal(value, whole[name])
        assert value.shape == (3, 40)


def test_a_window_is_compared_as_its_frames_alone(drift, train):
    videos = real(3)
    rows = drift.curve(videos, window=25, stride=25)  # 8 x 25 = n: all frames of a window
    assert [(row["start"], row["stop"]) for row in rows] == [(0, 25), (25, 50), (50, 75)]
    chosen = Rng(0).fold("real").permutation(len(train))[:200].sort()[0]
    for row in rows:
        part = videos[:, int(row["start"]) : int(row["stop"])]
        found, reference = Toy()(part.flatten(0, 1)), Toy()(train[chosen])
        assert row["kid_toy"] == pytest.approx(kid(found, reference, Rng(5))[0])
        assert row["fd_toy"] == pytest.approx(frechet(found, reference), rel=1e-6)
        statistics = frame_statistics(part)
        for name in ("sharpness", "mean", "std"):
            assert row[name] == pytest.approx(float(statistics[name].mean()))
        assert row["change"] == pytest.approx(float(statistics["change"][:, 1:].mean()))


def test_real_frames_are_not_seen_twice_nor_those_of_windows_that_overlap(train):
    toy = Toy()
    drift = Drift(toy, train, 200, Rng(0))
    assert toy.seen == 200
    few = drift.curve(real(3), window=50, stride=5)
    assert len(few) == 9
    assert toy.seen <= 200 + COUNT * LENGTH
    assert few == drift.curve(real(3), window=50, stride=5)
    # A window is the same, whatever others there are.
    assert few[2] == drift.curve(real(3)[:, 10:], window=50)[0] | {"start": 10, "stop": 60}


def test_frames_of_a_window_are_spread_over_videos_and_time(train):
    class Seen(Toy):
        def __call__(self, pixels):
            self.pixels = pixels
            return super().__call__(pixels)

    toy = Seen()
    drift = Drift(toy, train, 24, Rng(0))
    marks = torch.arange(8)[:, None] * 30 + torch.arange(30)
    drift.curve(marks.byte()[..., None, None, None].expand(-1, -1, 3, 16, 16), window=30)
    videos, times = toy.pixels[:, 0, 0, 0] // 30, toy.pixels[:, 0, 0, 0] % 30
    assert videos.bincount().tolist() == [3] * 8
    assert times.bincount(minlength=30).reshape(3, 10).sum(1).min() >= 6


def test_held_out_video_lies_at_its_anchor_and_below_noise(drift):
    anchors = drift.anchors(real(4), window=30)
    assert set(anchors) == {"held_out", "noised"}
    rows = drift.curve(real(5), window=30)
    for key in ("kid_toy", "fd_toy"):
        assert anchors["noised"][key] > 5 * abs(anchors["held_out"][key])
        mean = sum(row[key] for row in rows) / len(rows)
        assert abs(mean - anchors["held_out"][key]) < 0.2 * anchors["noised"][key]
    # The Laplacian's weights are 1, 1, 1, 1 and -4; values at the border are cut.
    added = (4 + 4**2) * (0.1 * 255) ** 2 * (0.299**2 + 0.587**2 + 0.114**2)
    sharper = anchors["noised"]["sharpness"] - anchors["held_out"]["sharpness"]
    assert sharper == pytest.approx(added, rel=0.15)
    assert anchors["noised"]["change"] > anchors["held_out"]["change"]
    assert "start" not in anchors["noised"]


@pytest.mark.parametrize("kind", ["noise", "blur", "freeze", "fade"])
def test_video_that_goes_wrong_leaves_the_anchor(drift, kind):
    """Nothing happens in the first window; the fault grows from one to the next."""
    videos = real(5)
    parts = [videos[:, :30], videos[:, 30:60], videos[:, 60:]]
    for k in (1, 2):
        if kind == "noise":
            parts[k] = noised(parts[k], 256, 0.05 * k, Rng(k))
        elif kind == "fade":
            parts[k] = (parts[k] // 2**k).byte()
        elif kind == "freeze":
            parts[k] = parts[k][:, torch.arange(30) // (5 * k) * (5 * k)]
        else:
            for _ in range(2 * k):
                parts[k] = blurred(parts[k])
    rows = drift.curve(torch.cat(parts, 1), window=30)
    clean = drift.curve(videos, window=30)

    def ratios(key):
        return [row[key] / own[key] for row, own in zip(rows, clean, strict=True)]

    for key in ("kid_toy", "fd_toy"):
        assert rows[0][key] == clean[0][key]
        if kind != "freeze":
            excess = [row[key] - own[key] for row, own in zip(rows, clean, strict=True)]
            assert 0 < excess[1] < excess[2]
    if kind == "noise":
        assert 1 < ratios("sharpness")[1] < ratios("sharpness")[2]
    if kind == "blur":
        assert 1 > ratios("sharpness")[1] > ratios("sharpness")[2]
    if kind == "freeze":
        assert ratios("sharpness")[1:] == pytest.approx([1, 1], abs=0.1)
        assert 0.5 > ratios("change")[1] > ratios("change")[2] > 0
    if kind == "fade":
        assert ratios("std")[1:] == pytest.approx([0.5, 0.25], abs=0.02)
        assert 1 > ratios("mean")[1] > ratios("mean")[2]


def test_frechet_is_left_out_where_frames_are_few(train):
    row = Drift(Toy(), train, 20, Rng(0)).curve(real(3), window=10)[0]
    assert "fd_toy" in row  # 20 >= 2 x 8

    class Wide(Toy):
        dim = 11

    assert "fd_toy" not in Drift(Wide(), train, 20, Rng(0)).curve(real(3), window=10)[0]
    allowed = Drift(Wide(), train, 20, Rng(0), allow_small=True)
    assert "fd_toy" in allowed.curve(real(3), window=10)[0]


def test_refusals(drift, train):
    for n in (19, len(train) + 1):
        with pytest.raises(ValueError, match=r"n must be in 20 \.\. 3600"):
            Drift(Toy(), train, n, Rng(0))
    videos = real(3)
    for bad in (videos[0], videos[..., :8]):
        with pytest.raises(ValueError, match=r"do not fit real frames of shape \(3, 16, 16\)"):
            drift.curve(bad, window=30)
    for window, stride in ((91, 1), (1, 1), (24, 1), (30, 0)):
        with pytest.raises(ValueError, match=r"a window must have 2 \.\. 90 frames, 200 or more"):
            drift.curve(videos, window=window, stride=stride)
    with pytest.raises(ValueError, match="1 or 3 channels and sides of at least 3"):
        frame_statistics(videos[:, :, :2])


def test_the_error_is_over_whole_videos(drift):
    videos = real(7)
    row = drift.curve(videos, window=30)[1]
    left = []
    places = torch.linspace(0, COUNT * 30 - 1, 200, dtype=torch.float64).round().long()
    frames, owner = videos[:, 30:60].flatten(0, 1)[places], places // 30
    features = Toy()(frames)
    for video in range(COUNT):
        rest = features[owner != video]
        left.append(kid(rest, drift._real, Rng(0))[0])
    expected = (COUNT - 1) * torch.tensor(left, dtype=torch.float64).var(correction=0)
    assert row["kid_toy_se"] == pytest.approx(float(expected.sqrt()), rel=1e-6)
    assert "kid_toy_se" not in drift.curve(real(7, 1, 300), window=300)[0]
