"""Which rows are held out is an option of every recipe of rows."""

import random

import numpy as np
import pytest
from PIL import Image

from noiseloom.recipes import RECIPES

OPTIONS = {
    "text": {"length": 8, "held_blocks": 20},
    "table": {},
    "sequences": {},
    "palette": {"side": 4, "colours": 4, "split": "random"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each kind."""
    folder, draw = tmp_path_factory.mktemp("own"), random.Random(0)
    (folder / "text").mkdir()
    (folder / "text" / "a.txt").write_text("".join(draw.choices("abcd ", k=4000)))
    rows = [f"{draw.randint(0, 5)},{draw.choice('abc')}\n" for _ in range(200)]
    (folder / "table.csv").write_text("age,job\n" + "".join(rows))
    lines = ["".join(draw.choices("ACGT", k=9)) for _ in range(200)]
    (folder / "sequences.txt").write_text("\n".join(lines))
    (folder / "palette").mkdir()
    colours = np.random.default_rng(0).choice([0, 255], (40, 4, 4, 3)).astype(np.uint8)
    colours[..., 2] = 0
    for i, pixels in enumerate(colours):
        Image.fromarray(pixels).save(folder / "palette" / f"{i}.png")
    return folder


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_split_is_drawn_by_its_seed(kind, files):
    path = str(next(files.glob(f"{kind}*")))

    def held(**options):
        found = RECIPES[kind](**OPTIONS[kind], **options).load(path)
        return found.fingerprint(), len(found.train), len(found.held_out)

    default, zero, one = held(), held(split_seed=0), held(split_seed=1)
    assert default == zero
    assert one[0] != zero[0]
    assert one[2] == zero[2]
