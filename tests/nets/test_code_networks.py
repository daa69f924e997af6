"""Codes in networks: no path where they say nothing, no effect at first, and then their own only.

Checks 4, 15, 22 and 23 of DisCo-Diff's specification, for every network that takes codes.
"""

import copy

import pytest
import torch

import noiseloom as nl
from noiseloom.latents import Latent, Splits, latent_loss, one_hot
from noiseloom.nets import (
    MLP,
    CausalTransformer,
    DiT,
    ImageEncoder,
    SequenceEncoder,
    Transformer,
    UNet,
    VideoTransformer,
)
from noiseloom.nets.attention import consult
from noiseloom.nets.code_attention import CrossAttention
from noiseloom.training import init_from

RNG, M, K, B = nl.Rng(0), 3, 5, 4
TOKENS = {"width": 16, "depth": 2, "heads": 2}


def unet(**options):
    stages = {"width": 16, "multipliers": (1, 2), "attention": (False, True), "head_width": 8}
    return UNet(2, 2, **{**stages, "blocks": 2, "middle": "attention", **options})


def groups(codes=None, **options):
    half = codes and (codes[0] - codes[0] // 2, codes[0] // 2)  # (2, 1) of 3: coarse to fine
    return unet(codes=codes, code_groups=half, **options)


def sequences(**options):
    return Transformer(2, 2, max_length=6, **TOKENS, **options)


def pictures(**options):
    return DiT(2, 2, size=(8, 8), **TOKENS, **options)


def tokens(**options):
    return CausalTransformer(2, 2, window=4, **TOKENS, **options)


def frames(**options):
    return VideoTransformer(2, 2, patch=2, window=4, **TOKENS, **options)


def vectors(**options):
    return MLP(2, 2, width=16, depth=2, **options)


# What is built, the shape of a state, and how many layers read codes.
CASES = {
    unet: ((2, 8, 8), 4),
    groups: ((2, 8, 8), 2),
    sequences: ((6, 2), 2),
    pictures: ((2, 8, 8), 2),
    tokens: ((6, 2), 2),
    frames: ((3, 2, 4, 4), 2),
    vectors: ((2,), 2),
}
each = pytest.mark.parametrize("build", CASES, ids=lambda build: build.__name__)


def make(build, **options):
    with nl.Rng(1).torch():
        return build(**options)


def told(build, awake, **options):
    """A network that reads codes, all of its parameters random."""
    return awake(make(build, codes=(M, K), **options))


def state(build, dtype=torch.float64):
    x = RNG.fold("x").normal((B, *CASES[build][0]), dtype)
    return x, torch.linspace(-5, 5, B, dtype=dtype)


def soft(dtype=torch.float64):
    return (3 * RNG.fold("codes").normal((B, M, K), dtype)).softmax(-1)


def table(network):
    (embedding,) = (module for module in network.modules() if isinstance(module, Splits))
    return embedding


@each
@pytest.mark.parametrize("codes", [None, (0, 5), (2, 1)])
def test_codes_that_say_nothing_have_no_path(build, codes):
    plain, network = make(build), make(build, codes=codes)
    assert plain.state_dict().keys() == network.state_dict().keys()
    values = network.state_dict()
    assert all(torch.equal(v, values[name]) for name, v in plain.state_dict().items())
    x, log_snr = state(build, torch.float32)
    if codes is None:
        with pytest.raises(ValueError, match="knows no condition 'codes'"):
            network(x, log_snr, {"codes": soft()})
        return
    network(x, log_snr, {"codes": torch.ones(B, *codes)})
    with pytest.raises(ValueError, match=f"network of m {codes[0]}, k {codes[1]}"):
        network(x, log_snr, {"codes": soft()})


@each
def test_all_else_is_drawn_the_same_with_codes(build):
    values = make(build, codes=(M, K)).state_dict()
    assert all(torch.equal(v, values[name]) for name, v in make(build).state_dict().items())


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_that_starts_from_one_without_codes_begins_exactly_there(build, dtype, awake):
    plain, network = awake(make(build)).float(), make(build, codes=(M, K))
    new = init_from(network, plain.state_dict())
    x, log_snr = state(build, torch.float32)
    conds = ({}, {"codes": torch.zeros(B, M, K)}, {"codes": soft(torch.float32)})
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        y = plain(x, log_snr)
        for cond in conds:
            assert torch.equal(network(x, log_snr, cond), y)
        network(x, log_snr, conds[-1]).square().sum().backward()
    # From there every layer that reads codes learns to, and nothing else of what is new does.
    learning = [n for n, p in network.named_parameters() if n in new and p.grad.any()]
    assert all(".context." not in name for name in learning)
    assert len([name for name in learning if name.endswith("weight")]) == CASES[build][1]


@pytest.mark.parametrize("build", [unet, sequences])
def test_what_would_be_felt_at_once_is_not_inherited(build):
    weights = make(build, codes=(M, K)).state_dict()
    assert not init_from(make(build, codes=(M, K)), weights)
    assert len(init_from(make(build, codes=(M, K + 1)), weights)) == 1
    for other in ({"codes": (M + 1, K)}, {"codes": (M, K), "code_depth": 3}):
        with pytest.raises(ValueError, match="keep m and code_depth"):
            init_from(make(build, **other), weights)
    if build is unet:
        with pytest.raises(ValueError, match="keep code_groups"):
            init_from(make(groups, codes=(M, K)), weights)


@each
def test_a_soft_code_is_a_mean_of_rows_and_a_hard_one_a_row(build, awake):
    network, (x, log_snr) = told(build, awake), state(build)
    first = one_hot(torch.zeros(B, M, dtype=torch.int64), K).double()
    for code in (soft()[0], one_hot(torch.tensor([4, 0, 2]), K).double()):
        other = copy.deepcopy(network)
        with torch.no_grad():
            rows = torch.einsum("mk,mkw->mw", code, table(network).table)
            table(other).table[:, 0] = rows
        y = network(x, log_snr, {"codes": code.expand(B, -1, -1)})
        expected = other(x, log_snr, {"codes": first})
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-9)
        assert (y - network(x, log_snr, {"codes": first})).abs().max() > 1e-3


@each
def test_zeros_are_null_whatever_the_codes_mean(build, awake):
    network, (x, log_snr) = told(build, awake), state(build)
    absent = network(x, log_snr)
    codes = soft()
    codes[1::2] = 0
    y = network(x, log_snr, {"codes": codes})
    torch.testing.assert_close(y[1::2], absent[1::2], rtol=0, atol=1e-12)
    assert (y - absent)[::2].abs().amax((*range(1, y.ndim),)).min() > 1e-3
    with torch.no_grad():
        table(network).table.mul_(2)
    assert torch.equal(network(x, log_snr), absent)
    with torch.no_grad():
        table(network).null.mul_(2)
    assert (network(x, log_snr) - absent).abs().max() > 1e-3


@each
def test_a_row_reads_its_own_codes(build, awake):
    network, (x, log_snr) = told(build, awake), state(build)
    codes = soft().requires_grad_()
    y = network(x, log_snr, {"codes": codes})
    (gradient,) = torch.autograd.grad(y[1].square().sum(), codes)
    assert (gradient.abs().amax((1, 2)) > 0).tolist() == [False, True, False, False]
    assert (gradient[1].abs().amax(-1) > 1e-6).all()
    alone = network(x[1:2], log_snr[1:2], {"codes": codes[1:2]})
    torch.testing.assert_close(alone, y[1:2], rtol=0, atol=1e-10)


@each
def test_gradients_reach_every_parameter(build, awake):
    network, (x, log_snr) = told(build, awake), state(build)
    codes = soft()
    codes[0] = 0
    network(x, log_snr, {"codes": codes}).square().sum().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]


@each
def test_codes_that_do_not_fit_are_named(build):
    network, (x, log_snr) = make(build, codes=(M, K)), state(build, torch.float32)
    for wrong in (soft()[:2], soft()[:, :2], soft()[..., :4], soft()[0]):
        with pytest.raises(ValueError, match=r"of m 3, k 5: expected \(4, 3, 5\)"):
            network(x, log_snr, {"codes": wrong})
    with pytest.raises(TypeError, match="one-hot rows"):
        network(x, log_snr, {"codes": torch.zeros(B, M, dtype=torch.int64)})


@pytest.mark.parametrize("build", [groups, sequences, frames])
def test_codes_are_one_graph(build, awake):
    small = {"blocks": 1, "middle": "none"} if build is groups else {}
    network, (x, log_snr) = told(build, awake, **small), state(build)
    torch.compiler.reset()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    y = network(x, log_snr, {"codes": soft()})
    torch.testing.assert_close(compiled(x, log_snr, {"codes": soft()}), y, rtol=0, atol=1e-10)


def test_tokens_with_times_of_their_own_read_codes(awake):
    network, (x, log_snr) = told(sequences, awake), state(sequences)
    cond = {"codes": soft()}
    times = log_snr[:, None].repeat(1, 6)
    y = network(x, log_snr, cond)
    torch.testing.assert_close(network(x, times, cond), y, rtol=0, atol=1e-10)
    # Others do not see token 2, and codes are read at each one's own time.
    cond["mask"] = torch.arange(6).expand(B, 6) != 2
    before = network(x, times, cond)
    times[:, 2] += 3
    changed = network(x, times, cond) - before
    assert (changed.abs().amax((0, 2)) > 1e-6).tolist() == [i == 2 for i in range(6)]


@pytest.mark.parametrize("build", [tokens, frames])
def test_tokens_read_codes_alike_wherever_they_are(build, awake):
    # Alone in its window a token differs from the next by nothing but its position.
    network, (x, _) = told(build, awake).eval(), state(build)
    network.window = 1
    log_snr, cond = torch.zeros(B), {"codes": soft()}
    y = network(x[:, :1].expand_as(x), log_snr, cond)
    torch.testing.assert_close(y, y[:, :1].expand_as(y), rtol=0, atol=1e-10)
    assert (y - network(x[:, :1].expand_as(x), log_snr)).abs().max() > 1e-3


def test_channels_last_pictures_read_the_same(awake):
    network, (x, log_snr) = told(unet, awake), state(unet)
    y = network(x, log_snr, {"codes": soft()})
    network.to(memory_format=torch.channels_last)
    z = network(x.contiguous(memory_format=torch.channels_last), log_snr, {"codes": soft()})
    assert z.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(z, y, rtol=0, atol=1e-10)


def test_what_is_consulted_is_a_softmax_with_a_place_for_nothing():
    q = RNG.fold("q").normal((2, 3, 7, 4), torch.float64)
    pairs = RNG.fold("pairs").normal((2, 5, 24), torch.float64)
    k, v = (pairs.reshape(2, 5, 2, 3, 4)[:, :, i] for i in (0, 1))
    weights = (torch.einsum("bhtd,bmhd->bhtm", q, k) / 2).exp()
    expected = torch.einsum("bhtm,bmhd->bhtd", weights, v) / (1 + weights.sum(-1, keepdim=True))
    torch.testing.assert_close(consult(q, pairs), expected)


def test_one_code_alone_says_other_things_at_other_pixels(awake):
    layer = awake(CrossAttention(8, 6, 2))
    x = RNG.fold("pixels").normal((1, 8, 3, 3), torch.float64)
    read = layer(x, RNG.fold("vector").normal((1, 1, 6), torch.float64)) - x
    assert (read.flatten(2).amax(-1) - read.flatten(2).amin(-1)).min() > 1e-3


def seen(network, x, log_snr, codes):
    """What every module on the way gives."""
    found = {}
    ways = [*network.down, *network.middle, *network.up]
    hooks = [
        module.register_forward_hook(lambda _, __, y, i=i: found.__setitem__(i, y))
        for i, module in enumerate((*ways, *network.codes.layers.values()))
    ]
    network(x, log_snr, {"codes": codes})
    for hook in hooks:
        hook.remove()
    return found, len(network.down) + len(network.middle)


def test_fine_groups_leave_what_is_coarser_as_it_was(awake):
    network, (x, log_snr) = told(groups, awake), state(groups)
    assert list(network.codes.layers) == ["up1", "up0"]
    codes = soft()
    before, climb = seen(network, x, log_snr, codes)
    fine, coarse = codes.clone(), codes.clone()
    fine[:, 2:], coarse[:, :2] = fine[:, 2:].roll(1, -1), coarse[:, :2].roll(1, -1)
    # Up the stages: 3 coarse blocks, an upsampling, 3 fine blocks; then the two layers.
    coarser = [*range(climb + 4), climb + 4, climb + 7]
    after, _ = seen(network, x, log_snr, fine)
    assert [i for i in sorted(after) if torch.equal(after[i], before[i])] == coarser
    after, _ = seen(network, x, log_snr, coarse)
    assert [i for i in sorted(after) if torch.equal(after[i], before[i])] == [*range(climb + 1)]


@pytest.mark.parametrize(("layer", "own"), [("up1", [0, 1]), ("up0", [2])])
def test_a_group_is_read_by_its_own_layer_alone(layer, own, awake):
    network, (x, log_snr) = told(groups, awake), state(groups)
    torch.nn.init.zeros_(network.codes.layers[layer].out.weight)
    codes = soft().requires_grad_()
    network(x, log_snr, {"codes": codes}).square().sum().backward()
    read = codes.grad.abs().amax((0, 2)) > 0
    assert read.tolist() == [i not in own for i in range(M)]


def test_a_stage_without_a_group_reads_nothing(awake):
    network = awake(make(unet, codes=(M, K), code_groups=(M, 0)))
    assert list(network.codes.layers) == ["up1"]
    network(*state(unet), {"codes": soft()})


def test_a_way_down_without_blocks_reads_nothing(awake):
    network = told(unet, awake, blocks=0, middle="none")
    assert list(network.codes.layers) == ["up1", "up0"]
    network(*state(unet), {"codes": soft()}).square().sum().backward()
    assert all(p.grad.any() for p in network.codes.layers.parameters())


@pytest.mark.parametrize("sizes", [(1, 1), (3,), (1, 1, 1), (4, -1)])
def test_groups_that_do_not_share_out_the_latents_are_named(sizes):
    with pytest.raises(ValueError, match="for 3 latents and 2 stages: give one size per stage"):
        make(unet, codes=(M, K), code_groups=sizes)
    with pytest.raises(ValueError, match="for 0 latents and 2 stages"):
        make(unet, code_groups=sizes)


@pytest.mark.parametrize("build", [unet, groups, sequences, pictures, tokens])
def test_an_encoder_is_trained_through_codes(build, awake):
    with nl.Rng(2).torch():
        options = {"width": 8, "depth": 1, "heads": 2}
        if build in (sequences, tokens):
            encoder = SequenceEncoder(2, M, K, **options)
        else:
            encoder = ImageEncoder(2, M, K, patch=4, **options)
    schedule = nl.Cosine()
    network = told(build, awake).float()
    denoiser = nl.Preconditioned(network, schedule)
    model = Latent(denoiser, encoder, m=M, k=K, updates=10, drop=0.3)
    assert sum(isinstance(module, Splits) for module in model.modules()) == 2
    x, _ = state(build, torch.float32)
    times = torch.linspace(0.1, 0.9, B)
    t = times[:, None].expand(B, 6) if build in (sequences, tokens) else times
    latent_loss(model, nl.GaussianDiffusion(schedule), x, t, None, nl.Rng(3)).mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())
