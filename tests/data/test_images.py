import pytest
import torch

from noiseloom.data import Images


def _images(count: int = 4) -> Images:
    pixels = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 3, 2, 2)
    return Images(pixels.contiguous(), torch.arange(count) % 2, ("a", "b"))


def test_rows_come_in_the_order_asked():
    images, rows = _images(), torch.tensor([3, 0, 3])
    batch = images[rows]
    assert batch["pixels"][:, 0, 0, 0].tolist() == [3, 0, 3]
    assert batch["label"].tolist() == [1, 0, 1]
    assert torch.equal(images.select([3, 0, 3]).pixels, batch["pixels"])
    assert len(images.select(torch.tensor([1]))) == 1


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"pixels": torch.full((4, 3, 2, 2), torch.nan)}, TypeError, "float32"),
        ({"labels": torch.zeros(4)}, TypeError, "int64"),
        ({"pixels": torch.zeros(4, 12, dtype=torch.uint8)}, ValueError, r"\(4, 12\)"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, ValueError, r"\(3,\)"),
        ({"labels": torch.tensor([0, 1, 2, 0])}, ValueError, "0 .. 2 do not fit 2 classes"),
        ({"labels": torch.tensor([0, 1, -1, 0])}, ValueError, "-1 .. 1"),
        ({"levels": 3}, ValueError, "pixel 3 is not below levels=3"),
    ],
)
def test_what_is_not_a_set_of_pictures_is_refused(change, error, words):
    images = _images()
    fields = {k: getattr(images, k) for k in ("pixels", "labels", "classes", "levels")}
    with pytest.raises(error, match=words):
        Images(**(fields | change))


def test_no_pictures_are_refused():
    with pytest.raises(ValueError, match="N >= 1"):
        _images().select(torch.empty(0, dtype=torch.int64))
