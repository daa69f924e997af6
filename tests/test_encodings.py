"""Codecs: checks 1 to 6 of the paper's file."""

import math

import pytest
import torch

from noiseloom.encodings import Bits, OneHot, Scaled, Standardised
from noiseloom.rng import Rng

CODES = ("binary", "gray", "random")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def codecs(classes, scale=1.0):
    bits = [Bits(classes, code, scale=scale) for code in CODES]
    return [*bits, OneHot(classes, scale), Scaled(classes, scale)]


def noise(shape, limit, dtype):
    """Uniform in (-limit, limit)."""
    return ((2 * Rng(1).uniform(shape, torch.float64) - 1) * limit * 0.97).to(dtype)


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 3, 5, 8, 256, 257, 32000])
def test_check_1_every_class_returns_after_noise_below_the_level(classes, scale):
    for codec in codecs(classes, scale):
        v = torch.arange(classes)
        if isinstance(codec, OneHot) and classes > 1000:  # 32,000 x 32,000 numbers
            v = torch.tensor([0, 1, 17, 31998, 31999])
        state = codec.encode(v)
        level = scale / (classes - 1) if isinstance(codec, Scaled) else scale
        for dtype in DTYPES:
            if isinstance(codec, Scaled) and classes > 2.5 / torch.finfo(dtype).eps:
                continue  # the levels are closer than the type's numbers
            assert torch.equal(codec.decode(state.to(dtype)), v), (codec, dtype)
            if dtype in (torch.float32, torch.float64):
                noisy = state.to(dtype) + noise(state.shape, level, dtype)
                assert torch.equal(codec.decode(noisy), v), (codec, dtype)


def test_check_1_bits_survive_noise_in_half_precision():
    v = torch.arange(257)
    for codec in codecs(257)[:4]:
        for dtype in DTYPES:
            state = codec.encode(v).to(dtype)
            assert torch.equal(codec.decode(state + noise(state.shape, 0.95, dtype)), v)


def test_check_2_width_is_the_bit_length_also_of_one_class():
    widths = {1: 1, 2: 1, 3: 2, 4: 2, 5: 3, 256: 8, 257: 9, 32000: 15, 2**40: 40, 2**40 + 1: 41}
    assert {k: Bits(k).width for k in widths} == widths
    one = Bits(1)
    assert one.encode(torch.tensor([0, 0])).tolist() == [[-1], [-1]]
    assert one.decode(torch.tensor([[-0.3], [0.4]])).tolist() == [0, 0]


@pytest.mark.parametrize("classes", [2, 3, 8, 100, 256, 257])
def test_check_3_gray_neighbours_differ_in_one_bit(classes):
    table = Bits(classes, "gray").table > 0
    assert (table.roll(-1, 0) != table).sum(1)[:-1].eq(1).all()
    if classes & (classes - 1) == 0:
        assert int((table[-1] != table[0]).sum()) == 1
    v = torch.arange(classes)
    integers = (table * 2 ** torch.arange(table.shape[1])).sum(1)
    assert torch.equal(integers, v ^ (v >> 1))
    assert len(set(integers.tolist())) == classes


def hamming_correlation(codec):
    """Correlation, over all pairs of bytes, of the codes' Hamming distance and |v - w|."""
    table = (codec.table > 0).double()
    distance = (table[:, None] != table[None]).sum(-1)
    i, j = torch.triu_indices(256, 256, 1)
    pair = torch.stack((distance[i, j].double(), (j - i).double()))
    neighbours = (table[1:] != table[:-1]).sum(1).double().mean()
    return float(torch.corrcoef(pair)[0, 1]), float(neighbours)


def test_check_4_the_random_code_is_the_papers_permutation():
    codec = Bits(256, "random")
    order = ((codec.table > 0) * 2 ** torch.arange(8)).sum(1)
    assert order[:12].tolist() == [228, 6, 79, 206, 117, 185, 242, 167, 9, 30, 180, 222]
    assert order[-5:].tolist() == [106, 14, 92, 179, 102]
    assert order.argsort()[:6].tolist() == [121, 233, 122, 173, 140, 83]
    assert sorted(order.tolist()) == list(range(256))
    # So zero maps to the bits of 228, least significant first.
    assert codec.encode(torch.tensor(0)).tolist() == [-1, -1, 1, -1, -1, 1, 1, 1]


def test_check_4_distances_of_the_three_codes():
    correlation, neighbours = hamming_correlation(Bits(256, "random"))
    assert abs(correlation) < 0.01
    assert correlation == pytest.approx(-0.007, abs=5e-4)
    assert neighbours == pytest.approx(1054 / 255, rel=1e-12)
    correlation, neighbours = hamming_correlation(Bits(256))
    assert correlation == pytest.approx(0.32407811558795, rel=1e-12)
    assert neighbours == pytest.approx(502 / 255, rel=1e-12)
    correlation, neighbours = hamming_correlation(Bits(256, "gray"))
    assert correlation == pytest.approx(0.32407811558795, rel=1e-12)
    assert neighbours == 1


@pytest.mark.parametrize("b", [0.1, 1.0, 2.0])
def test_check_5_least_significant_first_and_zero_is_a_zero_bit(b):
    codec = Bits(8, scale=b)
    torch.testing.assert_close(codec.encode(torch.tensor(1)), torch.tensor([b, -b, -b]))
    torch.testing.assert_close(codec.encode(torch.tensor(6)), torch.tensor([-b, b, b]))
    assert int(codec.decode(torch.zeros(3))) == 0
    assert int(codec.decode(torch.tensor([0.0, 1e-30, -0.0]))) == 2


def test_check_6_what_becomes_of_invalid_codes():
    everything = Bits(8).encode(torch.arange(8))
    assert Bits(5, invalid="clamp").decode(everything).tolist() == [0, 1, 2, 3, 4, 4, 4, 4]
    nearest = Bits(5, invalid="nearest")
    with pytest.raises(ValueError, match=r"3 of 8 codes .* invalid='nearest'"):
        Bits(5, invalid="raise").decode(everything)
    assert torch.equal(nearest.decode(everything[:5]), torch.arange(5))
    state = everything.repeat(200, 1).double() * (0.05 + Rng(0).uniform((1600, 3), torch.float64))
    inner = (state @ nearest.table.double().T).argmax(-1)
    integers = ((state > 0) * torch.tensor([1, 2, 4])).sum(-1)
    expected = torch.where(integers < 5, integers, inner)
    assert torch.equal(nearest.decode(state), expected)
    assert (expected[integers >= 5] != 4).any()  # nearest is not clamping
    for code in CODES:
        codec = Bits(5, code)
        assert float(codec.invalid_rate(everything)) == 3 / 8
        assert torch.equal(codec.decode(codec.table), torch.arange(5))
        assert codec.decode(everything).max() < 5


def test_nearest_agrees_with_brute_force_in_every_code():
    for code in CODES:
        codec = Bits(100, code)
        state = Rng(2).normal((3000, 7), torch.float64)
        distance = torch.cdist(state.sign(), codec.table.double())
        got = codec.decode(state)
        valid = distance.min(1).values == 0
        assert torch.equal(got[valid], distance.argmin(1)[valid])
        nearest = torch.cdist(state, codec.table.double()).argmin(1)
        assert torch.equal(got[~valid], nearest[~valid])


def test_bits_of_a_channel_stay_together_on_an_axis():
    image = Rng(0).integers(256, (2, 3, 4, 5))
    codec = Bits(256, axis=1)
    state = codec.encode(image)
    assert state.shape == (2, 24, 4, 5)
    plain = Bits(256).encode(image)
    for channel in range(3):
        for bit in range(8):
            assert torch.equal(state[:, 8 * channel + bit], plain[:, channel, ..., bit])
    assert torch.equal(codec.decode(state), image)
    for axis in (0, 1, 2, 3, -1, -2):
        for codec in (Bits(7, "gray", axis=axis), OneHot(7, axis=axis)):
            data = Rng(3).integers(7, (2, 3, 4, 5))
            state = codec.encode(data)
            assert state.shape[axis] == data.shape[axis] * codec.width
            assert torch.equal(codec.decode(state), data)


def test_integers_of_any_type_encode_and_others_are_named():
    for dtype in (torch.uint8, torch.int16, torch.int32, torch.int64):
        v = torch.tensor([3, 0, 200], dtype=dtype)
        assert torch.equal(Bits(256).decode(Bits(256).encode(v)), v.long())
    for codec in (Bits(5), OneHot(5)):
        with pytest.raises(ValueError, match=r"0 \.\. 4, got values from 0 to 5"):
            codec.encode(torch.tensor([0, 5]))
        with pytest.raises(ValueError, match="from -1"):
            codec.encode(torch.tensor([-1]))
        with pytest.raises(TypeError, match="float32"):
            codec.encode(torch.zeros(2))
        with pytest.raises(ValueError, match=r"cannot end in 9"):
            codec.decode(torch.zeros(2, 9))
    with pytest.raises(ValueError, match="does not hold codes of 3"):
        Bits(5, axis=1).decode(torch.zeros(2, 7, 4))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bits(0),
        lambda: Bits(4, scale=0.0),
        lambda: Bits(4, "grey"),
        lambda: Bits(4, invalid="strict"),
        lambda: OneHot(0),
        lambda: OneHot(3, scale=-1.0),
        lambda: Scaled(1),
        lambda: Standardised((0.0,), (1.0, 1.0)),
        lambda: Standardised((0.0,), (0.0,)),
    ],
)
def test_impossible_codecs_raise(make):
    with pytest.raises(ValueError, match=r"must|expected|needs"):
        make()


def test_one_hot_is_its_table_and_decodes_to_the_largest():
    for classes, scale in ((1, 1.0), (4, 0.5), (9, 2.0)):
        codec = OneHot(classes, scale)
        v = torch.arange(classes)
        assert torch.equal(codec.encode(v), codec.table)
        assert codec.encode(v).dtype == torch.float32
        assert torch.equal(codec.table.diagonal(), torch.full((classes,), scale))
    state = Rng(0).normal((50, 9))
    assert torch.equal(OneHot(9).decode(state), state.argmax(-1))


def test_levels_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"0 \.\. 15, got values from -3 to 99"):
        Scaled(16).encode(torch.tensor([99, -3]))
    with pytest.raises(ValueError, match=r"to 16$"):
        Scaled(16).encode(torch.tensor([16]))
    assert Scaled(16).encode(torch.tensor([0.0, 7.5, 15.0])).tolist() == [-1, 0, 1]
    assert Scaled(16).encode(torch.zeros(0, 3, dtype=torch.uint8)).shape == (0, 3)
    bright = Scaled(16, 2.0, 0.5)
    assert bright.encode(torch.tensor([0.0, 7.5, 15.0])).tolist() == [-3, -1, 1]
    assert torch.equal(bright.decode(bright.encode(torch.arange(16))), torch.arange(16))


def test_what_is_not_a_number_is_no_value():
    bad = torch.tensor([[0.0, math.nan], [1.0, 1.0]])
    real = Standardised((0.0, 1.0), (1.0, 2.0))
    for codec in (Bits(4), OneHot(2), Scaled(16), real):
        with pytest.raises(ValueError, match="1 of 4 values are not a number"):
            codec.decode(bad)
    with pytest.raises(ValueError, match="1 of 4 values are not a number"):
        real.encode(bad)
    with pytest.raises(ValueError, match="got values from nan to nan"):
        Scaled(16).encode(bad)
    assert Scaled(16).decode(torch.tensor([-math.inf, math.inf])).tolist() == [0, 15]


def test_scaled_covers_its_range_and_clamps_beyond_it():
    codec = Scaled(256, 0.5)
    assert codec.encode(torch.tensor([0, 255])).tolist() == [-0.5, 0.5]
    assert codec.decode(torch.tensor([-9.0, 9.0, 0.5])).tolist() == [0, 255, 255]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_data_to_standardise_is_finite(value):
    data = Rng(0).normal((10, 3))
    data[2, 1] = data[5, 0] = value
    with pytest.raises(ValueError, match="2 of 30 values are not finite"):
        Standardised.fit(data)


def test_a_constant_feature_keeps_its_scale():
    for count in (3, 7, 500):  # rounding of the mean leaves a deviation of 1e-17
        data = torch.full((count, 1), 0.1, dtype=torch.float64)
        codec = Standardised.fit(data)
        assert codec.std == (1.0,)
        assert codec.encode(data).abs().max() < 1e-15
        torch.testing.assert_close(codec.decode(torch.zeros_like(data)), data)


def test_standardised_data_has_mean_0_and_variance_1():
    data = 3 * Rng(0).normal((500, 7, 3), torch.float64) + torch.tensor([1.0, -5.0, 0.0])
    data[..., 2] = 4.0  # a constant feature
    codec = Standardised.fit(data)
    state = codec.encode(data)
    assert state.mean((0, 1)).abs().max() < 1e-12
    assert state[..., :2].flatten(0, 1).std(0).tolist() == pytest.approx([1, 1], rel=1e-12)
    assert torch.equal(state[..., 2], torch.zeros(500, 7, dtype=torch.float64))
    torch.testing.assert_close(codec.decode(state), data)
    assert math.isclose(codec.std[2], 1.0)
