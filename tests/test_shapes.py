import itertools

import pytest
import torch

from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.rng import Rng
from noiseloom.shapes import align, map_state, mean_like


def fits(time, state):
    """The law, said once more: a left prefix, each entry 1 or equal."""
    return len(time) <= len(state) and all(a in (1, b) for a, b in zip(time, state, strict=False))


def test_align_accepts_exactly_the_left_prefixes():
    sizes = (1, 2, 3)
    states = [s for n in range(4) for s in itertools.product(sizes, repeat=n)]
    for state in states:
        x = torch.zeros(state)
        for time in states:
            t = torch.rand(time, generator=torch.Generator().manual_seed(0))
            if fits(time, state):
                aligned = align(t, x)
                assert aligned.ndim in (0, x.ndim)
                assert torch.equal(aligned.flatten(), t.flatten())
                assert torch.broadcast_shapes(aligned.shape, x.shape) == x.shape
            else:
                with pytest.raises(ValueError, match="does not fit") as error:
                    align(t, x)
                assert str(tuple(time)) in str(error.value)
                assert str(tuple(state)) in str(error.value)


def test_a_time_belongs_to_the_left_axes_even_when_all_sizes_agree():
    t = torch.tensor([0.1, 0.2, 0.3])
    x = torch.zeros(3, 3, 3)
    assert torch.equal(align(t, x).expand(3, 3, 3)[:, 1, 2], t)


@pytest.mark.parametrize("t", [0.5, torch.tensor(1), torch.tensor([True]), None])
def test_a_time_that_is_no_floating_point_tensor_raises(t):
    with pytest.raises(TypeError, match="a time must be a floating-point tensor"):
        align(t, torch.zeros(3))


@pytest.mark.parametrize("shape", [(2,), (3, 4), (4, 5), (4, 8, 2), (8,), (4, 8, 3, 1), (1, 3)])
def test_every_method_of_a_diffusion_names_both_shapes(shape):
    x, bad, good = torch.zeros(4, 8, 3), torch.full(shape, 0.5), torch.tensor(0.5)
    d, rng = GaussianDiffusion(), Rng(0)
    says = Prediction(x)
    for call in (
        lambda: d.corrupt(x, bad, rng),
        lambda: d.reverse(x, says, bad, good, rng),
        lambda: d.reverse(x, says, good, bad, rng),
        lambda: d.renoise(x, bad, good, rng),
        lambda: d.renoise(x, good, bad, rng),
        lambda: d.loss(says, x, x, bad),
        lambda: d.tilt(says, x, x, bad),
    ):
        with pytest.raises(ValueError, match="does not fit") as error:
            call()
        assert str(shape) in str(error.value)
        assert "(4, 8, 3)" in str(error.value)


def test_mean_like_averages_what_a_time_shares():
    values = Rng(0).normal((3, 4, 5), torch.float64)
    for shape in [(), (3,), (1,), (3, 4), (1, 4), (3, 1, 5), (3, 4, 5)]:
        t = align(torch.zeros(shape), values)
        got = mean_like(values, t)
        axes = [i for i in range(3) if t.ndim == 0 or t.shape[i] == 1]
        expected = values.numpy().mean(tuple(axes), keepdims=True)
        assert got.shape == expected.shape
        torch.testing.assert_close(got, torch.from_numpy(expected))


def test_map_state_maps_parts_and_refuses_others():
    state = {"a": torch.ones(2), "b": torch.zeros(3)}
    other = {"b": torch.ones(3), "a": torch.ones(2)}
    total = map_state(torch.add, state, other)
    assert torch.equal(total["a"], torch.full((2,), 2.0))
    assert torch.equal(map_state(torch.neg, torch.ones(2)), -torch.ones(2))
    with pytest.raises(ValueError, match="expected the parts"):
        map_state(torch.add, state, {"a": torch.ones(2)})
