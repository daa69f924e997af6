"""Encoders of pictures and sequences: what their logits depend on, and what they refuse."""

import pytest
import torch
from torch.nn import functional

from noiseloom.latents import Splits
from noiseloom.nets import ImageEncoder, RowEncoder, SequenceEncoder
from noiseloom.nets.blocks import Blocks
from noiseloom.rng import Rng

SMALL = {"width": 16, "depth": 2, "heads": 2}
PICTURES, SEQUENCES = (Rng(0).normal((4, *shape)) for shape in ((3, 8, 12), (7, 3)))


def images(m=2, k=5, **options):
    with Rng(0).torch():
        return ImageEncoder(3, m, k, **{"patch": 4, **SMALL, **options})


def series(m=2, k=5, **options):
    with Rng(0).torch():
        return SequenceEncoder(3, m, k, **SMALL, **options)


each = pytest.mark.parametrize(("build", "x"), [(images, PICTURES), (series, SEQUENCES)])


@each
@pytest.mark.parametrize(("m", "k"), [(2, 5), (1, 2), (0, 3), (3, 1)])
def test_logits_of_every_latent(build, x, m, k):
    assert build(m, k)(x).shape == (4, m, k)


@each
def test_latents_start_from_logits_of_moderate_size(build, x):
    logits = build(8, 32)(x)
    assert 0.3 < logits.std() < 1  # 3^-1/2 for features of unit variance


@each
def test_every_number_reaches_every_latent_of_its_own_sample(build, x):
    x = x.clone().requires_grad_()
    logits = build()(x)
    for i in range(2):
        (gradient,) = torch.autograd.grad(logits[1, i, 0], x, retain_graph=True)
        assert (gradient[1] != 0).all()
        assert not gradient[[0, 2, 3]].any()


@each
def test_a_latent_has_a_head_of_its_own(build, x):
    encoder = build()
    (gradient,) = torch.autograd.grad(encoder(x)[:, 0].sum(), encoder.reader.head.weight)
    assert gradient[0].any()
    assert not gradient[1].any()
    assert sum(isinstance(module, Splits) for module in encoder.modules()) == 1


@each
def test_gradients_reach_every_parameter(build, x):
    encoder = build()
    encoder(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


@each
def test_the_scale_divides(build, x):
    torch.testing.assert_close(build(scale=2.0)(2 * x), build()(x))


@pytest.mark.parametrize("order", [(1, 0), (0, 2, 1)])
def test_places_matter(order):
    encoder = images()
    rows = PICTURES.unflatten(2, (2, 4)).unflatten(4, (3, 4))  # (B, C, rows, 4, columns, 4)
    moved = rows[:, :, order] if len(order) == 2 else rows[:, :, :, :, order]
    assert (encoder(moved.reshape(PICTURES.shape)) - encoder(PICTURES)).abs().max() > 1e-3
    assert (series()(SEQUENCES.flip(1)) - series()(SEQUENCES)).abs().max() > 1e-3


def test_sizes_are_free():
    for size in ((4, 4), (16, 8), (4, 20)):
        assert images()(torch.zeros(2, 3, *size)).shape == (2, 2, 5)
    for length in (1, 30):
        assert series()(torch.zeros(2, length, 3)).shape == (2, 2, 5)


def test_pictures_that_do_not_fit_are_named():
    for shape in ((2, 3, 6, 8), (2, 3, 8, 6), (2, 2, 8, 8), (3, 8, 8)):
        with pytest.raises(
            ValueError, match=r"expected \(B, 3, H, W\) with H and W multiples .* 4"
        ):
            images()(torch.zeros(shape))
    for shape in ((2, 7, 2), (7, 3)):
        with pytest.raises(ValueError, match=r"expected \(B, T, 3\)"):
            series()(torch.zeros(shape))
    with pytest.raises(ValueError, match="knows no condition 'label'"):
        images()(PICTURES, {"label": torch.zeros(4)})
    with pytest.raises(ValueError, match="multiple of 4"):
        images(width=18)
    with pytest.raises(ValueError, match="among 3 heads"):
        images(heads=3)
    with pytest.raises(ValueError, match="at least 1"):
        images(patch=0)


@each
def test_dropout_has_a_mask_for_each_sample_in_training_only(build, x):
    encoder, plain, keys = build(dropout=0.3), build()(x), Rng(4).samples(4).key
    with pytest.raises(ValueError, match="dropout"):
        encoder(x)
    first = encoder(x, {"dropout": keys})
    assert (first - plain).abs().amax((1, 2)).min() > 1e-3
    alone = encoder(x[2:3], {"dropout": keys[2:3]})
    torch.testing.assert_close(alone, first[2:3])
    assert torch.equal(encoder.eval()(x), plain)


@each
def test_it_runs_in_bfloat16_and_as_one_graph(build, x):
    encoder = build()
    y = encoder(x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(encoder(x).float(), y, rtol=0, atol=0.1)
    torch.compiler.reset()
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), y, rtol=1e-4, atol=1e-5)


def test_blocks_are_those_of_pytorch():
    with Rng(0).torch():
        blocks = Blocks(16, 2, 4)
        theirs = [
            torch.nn.TransformerEncoderLayer(
                16,
                4,
                64,
                dropout=0,
                activation=lambda h: functional.gelu(h, approximate="tanh"),
                layer_norm_eps=1e-6,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(2)
        ]
    h = expected = Rng(1).normal((3, 6, 16))
    for layer, attention, mlp in zip(theirs, blocks.attention, blocks.mlp, strict=True):
        names = {"self_attn.in_proj_": attention.qkv, "self_attn.out_proj.": attention.out}
        names |= {"linear1.": mlp[0], "linear2.": mlp[2]}
        ours = {n + kind: getattr(m, kind) for n, m in names.items() for kind in ("weight", "bias")}
        layer.load_state_dict(ours, strict=False)
        expected = layer(expected)
    expected = functional.layer_norm(expected, (16,), eps=1e-6)
    torch.testing.assert_close(blocks(h), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("places", [None, 7])
def test_rows_of_classes_are_read_as_vectors_of_unit_variance(places):
    with Rng(0).torch():
        encoder = RowEncoder(5, 2, 3, places=places, **SMALL)
    tokens = Rng(1).integers(5, (4, 7))
    vectors = functional.one_hot(tokens, 5) * 5**0.5
    assert encoder(tokens).shape == (4, 2, 3)
    assert torch.equal(encoder(tokens), encoder(vectors))
    assert sum(isinstance(module, Splits) for module in encoder.modules()) == 1


def test_a_class_of_one_place_need_not_be_that_of_another():
    with Rng(0).torch():
        encoder = RowEncoder(5, 2, 3, places=4, **SMALL)
    logits = encoder(torch.ones(1, 4, dtype=torch.int64))[0, 0, 0]
    (gradient,) = torch.autograd.grad(logits, encoder.enter)
    assert gradient[:, 1].abs().amin(-1).all()
    assert not gradient[:, [0, 2, 3, 4]].any()
