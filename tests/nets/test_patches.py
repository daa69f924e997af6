import pytest
import torch

from noiseloom.nets.patches import Places, cut, paste


@pytest.mark.parametrize("outer", [(), (2,), (2, 3)])
def test_patches_are_cut_and_pasted_without_loss(outer):
    shape = *outer, 5, 6, 4
    x = torch.arange(torch.Size(shape).numel()).reshape(shape)
    patches = cut(x, 2)
    assert patches.shape == (*outer, 6, 20)
    # Patch 3 is in row 1 and column 1.
    assert torch.equal(patches[..., 3, :].unflatten(-1, (5, 2, 2)), x[..., 2:4, 2:4])
    assert torch.equal(paste(patches, 2, 3), x)


def test_a_place_is_told_by_its_row_and_column_whatever_the_size():
    places = Places(16)
    small, large = places(2, 3), places(4, 5).unflatten(0, (4, 5))
    torch.testing.assert_close(small.unflatten(0, (2, 3)), large[:2, :3])
    distances = torch.cdist(large.flatten(0, 1), large.flatten(0, 1)) + 9 * torch.eye(20)
    assert distances.min() > 0.5
    # By hand: frequencies 1, 0.1, 0.01 and 0.001, of row and column alike.
    rates = 10.0 ** -torch.arange(4)
    row, column = 2 * rates, 4 * rates
    expected = torch.cat((row.cos(), column.cos(), row.sin(), column.sin()))
    torch.testing.assert_close(large[2, 4], expected)
    assert not Places(16).state_dict()
    assert torch.equal(Places(16, most=2)(4, 5), places(4, 5))
