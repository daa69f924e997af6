"""Samples that are kept beside figures: what they mean, and where a comparison says they are."""

import io
import json
import shlex

import pytest
import torch
from PIL import Image

from noiseloom.cli import main
from noiseloom.data import Palette, read_table
from noiseloom.data.vocabularies import Characters, Numbers, Symbols
from noiseloom.recipes.samples import few_rows


def test_of_a_text_a_line_is_a_row_and_of_sequences_as_well() -> None:
    text = Characters("a\nb")
    tokens = torch.tensor([[0, 1, 2], [2, 2, 0]] * 20)
    kept = few_rows(text, tokens)
    assert list(kept) == [".samples.txt"]
    assert kept[".samples.txt"].decode() == "a\u23ceb\nbba\n" * 8
    bonds = Symbols(("C", "\\", "/"), 4)
    assert few_rows(bonds, torch.tensor([[2, 0, 1, 3]])) == {".samples.txt": b"/C\\\n"}
    assert few_rows(Numbers((10, 20), 2), torch.tensor([[0, 1]])) == {".samples.txt": b"10,20\n"}
    assert few_rows(None, tokens) == {}


def test_of_a_table_it_is_a_table_that_can_be_read_again(tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("city,n\n" + '"New, York",1\nRome,2\n' * 20)
    split, words = read_table(path)
    kept = few_rows(words, split.train.values[:2])
    assert list(kept) == [".samples.csv"]
    lines = kept[".samples.csv"].decode().splitlines()
    assert lines[0] == "city,n"
    assert set(lines[1:]) <= {'"New, York",1', "Rome,2"}
    assert len(lines) == 3


@pytest.mark.parametrize("count", [3, 6, 40])
def test_pictures_lie_four_in_a_row_each_pixel_a_square(count) -> None:
    palette = Palette(((255, 0, 0), (0, 255, 0)), 2)
    kept = few_rows(palette, torch.tensor([[0, 1, 1, 0]] * count))
    picture = Image.open(io.BytesIO(kept[".samples.png"]))
    shown = min(count, 16)
    assert picture.size == (128 * min(4, shown), 128 * -(-shown // 4))
    assert picture.getpixel((63, 63)) == picture.getpixel((64, 64)) == (255, 0, 0)
    assert picture.getpixel((64, 63)) == picture.getpixel((63, 64)) == (0, 255, 0)


def test_a_comparison_says_where_they_are(tmp_path, capsys) -> None:
    path, out = tmp_path / "mine.txt", tmp_path / "grid"
    path.write_text("the cat sat on the mat; " * 40)
    words = shlex.split(
        "--length 8 --width 16 --depth 1 --heads 2 --batch-size 8 --samples 24 --judged 16 "
        "--levels 2 --sampling-steps 4 --seeds 1 --steps 3 --state masked,autoregressive"
    )
    assert main(["compare", "--data", str(path), *words, "--out", str(out)]) == 0
    told = f"samples of each run: {out / 'runs'}/**/*.samples.txt"
    assert told in capsys.readouterr().out
    found = sorted(out.glob("runs/**/*.samples.txt"))
    assert len(found) == 2
    for file in found:
        assert file.with_name(file.name.replace(".samples.txt", ".json")).is_file()
        lines = file.read_text().splitlines()
        assert [len(line) for line in lines] == [8] * 16
        assert set("".join(lines)) <= set(path.read_text()) | {"\u23ce"}
    assert json.loads((out / "table.json").read_text())["cells"][0]["n"] == 1
