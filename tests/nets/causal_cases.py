"""The causal networks and their inputs, for the tests of both."""

import pytest
import torch

from noiseloom.nets import CausalTransformer, Recurrent
from noiseloom.rng import Rng

B, T, D, A, K = 3, 9, 3, 2, 3

EVERYTHING = {"num_classes": K, "action_features": A, "self_conditioning": True, "dropout": 0.2}
PER_TOKEN = ("estimate", "action", "action_mask", "mask")


def transformer(window=4, depth=2, **options):
    with Rng(0).torch():
        return CausalTransformer(D, 5, width=16, heads=2, window=window, depth=depth, **options)


def recurrent(window=None, depth=2, **options):
    with Rng(0).torch():
        return Recurrent(D, 5, width=16, depth=depth, **options)


BUILDS = pytest.mark.parametrize("build", [transformer, recurrent])


def inputs(options=EVERYTHING, length=T, dtype=torch.float64):
    """A state, a level per token, and every condition that a network with these options takes."""
    rng = Rng(7)
    x = rng.fold("x").normal((B, length, D), dtype)
    log_snr = 5 * rng.fold("t").normal((B, length), dtype)
    cond = {}
    if options.get("num_classes"):
        cond["label"] = torch.arange(B) % (K + 1)
    if options.get("action_features"):
        cond["action"] = rng.fold("action").normal((B, length, A), dtype)
        cond["action_mask"] = rng.fold("known").uniform((B, length)) > 0.3
    if options.get("self_conditioning"):
        cond["estimate"] = rng.fold("estimate").normal((B, length, D), dtype)
    if options.get("dropout"):
        cond["dropout"] = rng.samples(B).key
    return x, log_snr, cond


def part(data, start, stop):
    """The tokens start .. stop - 1 of some inputs."""
    x, log_snr, cond = data
    some = {k: v[:, start:stop] if k in PER_TOKEN else v for k, v in cond.items()}
    return x[:, start:stop], log_snr[:, start:stop], some
