"""Gaussians on a circle: their moments, and two parts that do not share a point."""

import math

import torch

from noiseloom.data import gaussians_on_a_circle


def test_components_have_their_centres_and_deviation():
    split = gaussians_on_a_circle(8000)
    for part, counts in ((split.train, 0), (split.held_out, 5 * 1000**0.5)):
        for j in range(8):
            own = part[(part.labels == j).nonzero()[:, 0]]["values"]
            assert abs(len(own) - 1000) <= counts
            centre = 3 * torch.tensor([math.cos(j * math.pi / 4), math.sin(j * math.pi / 4)])
            assert (own.mean(0) - centre).abs().max() < 5 * 0.2 / 1000**0.5
            assert (own.std(0) - 0.2).abs().max() < 5 * 0.2 / 2000**0.5
    assert not torch.isin(split.train.values, split.held_out.values).all(1).any()
    assert split.fingerprint() == gaussians_on_a_circle(8000).fingerprint()
