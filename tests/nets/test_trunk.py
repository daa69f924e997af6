"""The blocks of transformers against their formula, written out."""

import torch
from torch.nn import functional

from noiseloom.nets.trunk import Trunk
from noiseloom.rng import Rng


def test_a_trunk_is_its_formula(awake):
    trunk = awake(Trunk(16, 5, 2, 2, 0.0)).eval()
    h = Rng(0).normal((3, 7, 16), torch.float64)
    embedding = Rng(1).normal((3, 7, 16), torch.float64)
    y, last, _ = trunk(h, embedding, None, causal=True)
    parts = iter(trunk.modulation(embedding).split(16, -1))

    def modulated(h):
        shift, scale = next(parts), next(parts)
        return functional.layer_norm(h, (16,), eps=1e-6) * (1 + scale) + shift

    for block in trunk.blocks:
        for branch in (lambda z, b=block: b.attention.attend(z, causal=True)[0], block.mlp):
            z = branch(modulated(h))
            h = h + next(parts) * z
    torch.testing.assert_close(last, h, rtol=0, atol=1e-10)
    torch.testing.assert_close(y, trunk.output(modulated(h)), rtol=0, atol=1e-10)
