import os
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from noiseloom.data import decode, image_folder, tiles
from noiseloom.data.decode import files_in


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISELOOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _save(path, value, size=(8, 8), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes at two depths: reds 10, 20, ..., 200 in a/x, greens in b/y."""
    root = tmp_path / "pictures"
    for i in range(1, 21):
        _save(root / "a" / "x" / f"{i:02}.png", (10 * i, 0, 0))
        _save(root / "b" / "y" / f"{i:02}.png", (0, 10 * i, 0))
    return root


def _zip(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder.parent).as_posix())
        archive.writestr("__MACOSX/pictures/a/x/._01.png", b"resource fork")
    return path


def _all(split):
    return torch.cat([split.train.pixels, split.held_out.pixels])


def _equal(one, other):
    return all(
        torch.equal(getattr(one, part).pixels, getattr(other, part).pixels)
        and torch.equal(getattr(one, part).labels, getattr(other, part).labels)
        and getattr(one, part).classes == getattr(other, part).classes
        for part in ("train", "held_out")
    )


def test_folder_names_are_classes_and_the_split_is_stratified(folder):
    split = image_folder(folder, 8, held_out=0.25)
    assert split.train.classes == ("a/x", "b/y")
    assert (len(split.train), len(split.held_out)) == (30, 10)
    assert torch.bincount(split.held_out.labels).tolist() == [5, 5]
    for part in (split.train, split.held_out):
        assert ((part.pixels[:, 0, 0, 0] > 0) == (part.labels == 0)).all()  # red is class a
    assert len(torch.unique(_all(split).flatten(1), dim=0)) == 40
    assert split.notes == ()


def test_arcs_are_held_out_whole(tmp_path):
    # Frames 0 .. 39 of two turntables, the number in the colour; names without leading zeros.
    root = tmp_path / "frames"
    for kind, channel in (("Training/a", 0), ("Test/b", 1)):  # folders that arcs do not mind
        for i in range(40):
            colour = [0, 0, 0]
            colour[channel] = 6 * i + 10
            _save(root / kind / f"r0_{i}_100.png", tuple(colour))
    splits = [image_folder(root, 8, held_out=0.2, split="arcs", seed=s) for s in (0, 0, 3)]
    assert _equal(splits[0], splits[1])
    assert not _equal(splits[0], splits[2])
    for split in splits:
        assert (len(split.train), len(split.held_out)) == (64, 16)
        for kind in (0, 1):
            held, trained = (
                sorted(((p.pixels[p.labels == kind][:, kind, 0, 0].int() - 10) // 6).tolist())
                for p in (split.held_out, split.train)
            )
            assert held == list(range(held[0], held[0] + 8))
            inner = held[1:-1]
            assert not {n + d for n in inner for d in (-1, 1)} & set(trained)
            assert len(trained) == 32


def test_depth_and_seed(folder):
    assert image_folder(folder, 8, class_depth=1).train.classes == ("a", "b")
    assert image_folder(folder, 8, class_depth=-1).train.classes == ("x", "y")
    assert not _equal(image_folder(folder, 8, seed=1), image_folder(folder, 8))
    assert image_folder(folder / "a", 8).train.classes == ("a",)


def test_what_is_passed_over_is_noted(folder):
    (folder / "scan.TIFF").write_bytes(b"II*")
    (folder / "a" / "photo.heic").write_bytes(b"")
    split = image_folder(folder, 8, class_depth=3)
    assert split.train.classes == ("a/x", "b/y")
    assert split.notes == (
        "2 pictures are of formats that are not read (heic, tiff)",
        "class_depth is 3 folders, and no picture lies in more than 2",
    )


def test_zip_and_a_folder_around_everything_change_nothing(folder, tmp_path):
    split = image_folder(folder, 8)
    assert _equal(split, image_folder(folder.parent, 8))
    assert _equal(split, image_folder(_zip(folder, tmp_path / "pictures.zip"), 8))


def test_train_and_test_folders_are_the_split(tmp_path):
    root = tmp_path / "set"
    for i in range(6):
        _save(root / "Training" / "cat" / f"{i}.png", (i, 0, 0))
        _save(root / "Test" / "cat" / f"{i}.png", (i + 4, 0, 0))  # 4 and 5 are in both
    _save(root / "Test" / "dog" / "0.png", (0, 0, 9))
    _save(root / "icons" / "0.png", (0, 9, 0))
    split = image_folder(root, 8)
    assert split.train.classes == ("cat", "dog")
    assert split.train.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert split.held_out.pixels[:, 0, 0, 0].tolist() == [6, 7, 8, 9, 0]
    assert split.held_out.labels.tolist() == [0, 0, 0, 0, 1]
    assert split.notes == (
        "1 pictures lie beside the train and test folders",
        "2 pictures equal an earlier one",
    )
    mixed = image_folder(root, 8, split="random", held_out=0.5)
    assert (len(mixed.train), len(mixed.held_out)) == (5, 6)


@pytest.mark.parametrize("place", ["beside", "inside"])
def test_csv_gives_labels_and_selects(folder, tmp_path, place):
    table = (folder if place == "inside" else tmp_path) / "labels.csv"
    rows = [f"a/x/{i:02}.png,{i % 3 * 5}" for i in range(1, 13)]
    table.write_text("\ufefffile,label\n" + "\n".join(rows) + "\n")
    split = image_folder(folder, 8, labels="labels.csv" if place == "inside" else table)
    assert split.train.classes == ("0", "5", "10")  # numbers in their order, not in the alphabet's
    for part in (split.train, split.held_out):
        assert (part.pixels[:, 0, 0, 0] // 10 % 3 == part.labels).all()
    assert len(_all(split)) == 12


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (
            "file,label\na/x/01.png,0\na/x/99.png,1\n",
            FileNotFoundError,
            "line 3: no file a/x/99.png",
        ),
        ("name,class\na/x/01.png,0\n", ValueError, "columns file,label"),
        ("file,label\na/x/01.png,0\na/x/01.png,1\n", ValueError, "line 3: a/x/01.png needs one"),
        ("file,label\na/x/01.png,\n", ValueError, "line 2: a/x/01.png needs one"),
        ("file,label\n", ValueError, "no pictures"),
    ],
)
def test_bad_tables_are_refused(folder, tmp_path, text, error, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(error, match=words) as info:
        image_folder(folder, 8, labels=tmp_path / "t.csv")
    assert "\n" not in str(info.value)


def test_a_table_in_another_encoding_is_named(folder, tmp_path):
    (tmp_path / "t.csv").write_bytes("file,label\na/x/01.png,café\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"t\.csv is not UTF-8"):
        image_folder(folder, 8, labels=tmp_path / "t.csv")


def test_pictures_of_every_kind_decode_to_their_colour(tmp_path):
    root = tmp_path / "kinds"
    for suffix in ("png", "jpg", "jpeg", "webp", "bmp", "gif"):
        _save(root / f"{suffix}.{suffix}", (200, 100, 50), size=(40, 20))
    grey = Image.fromarray(np.full((8, 8), 200 * 257, np.uint16))
    grey.save(root / "sixteen.png")
    _save(root / "upper.PNG", 120, mode="L")
    (root / "notes.txt").write_text("not a picture")
    for name in sorted(f.name for f in root.iterdir() if f.suffix != ".txt"):
        colour = decode.decode((root / name).read_bytes(), decode.Framing(8)).float()
        expected = {"sixteen.png": (200,) * 3, "upper.PNG": (120,) * 3}.get(name, (200, 100, 50))
        error = (colour - torch.tensor(expected)[:, None, None]).abs().max()
        assert error <= (0 if name.endswith(("png", "PNG", "bmp")) else 8), name
    assert len(_all(image_folder(root, 8))) >= 3


def test_transparency_shows_the_background(tmp_path):
    root = tmp_path / "clear"
    _save(root / "0.png", (255, 0, 0, 0), mode="RGBA")
    _save(root / "1.png", (255, 0, 0, 128), mode="RGBA")
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(root / "2.png", transparency=0)
    split = image_folder(root, 8, background=(0, 0, 255))
    pixels = sorted(_all(split)[:, :, 0, 0].tolist())
    assert pixels == [[0, 0, 255], [9, 9, 9], [128, 0, 127]]


def test_the_centre_is_cropped_and_reducing_averages(tmp_path):
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, :32] = (255, 0, 0)  # left quarter, cropped away
    wide[::2, 32:96] = 200  # lines of one pixel: skipping pixels would give 0 or 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pixels = decode.decode((tmp_path / "wide.png").read_bytes(), decode.Framing(4))
    assert (pixels.int() - 100).abs().max() <= 12
    assert torch.equal(pixels[0], pixels[1])  # nothing of the red


def test_exif_orientation_is_obeyed(tmp_path):
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise: the left side comes up
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    pixels = decode.decode((tmp_path / "turned.png").read_bytes(), decode.Framing(8))
    assert pixels[0, :4].min() == 255
    assert pixels[0, 4:].max() == 0


def test_cache_gives_the_same_and_follows_changes(folder, cache, monkeypatch):
    cold = image_folder(folder, 8)
    assert len(list(cache.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(decode, "decode", lambda *_: pytest.fail("decoded again"))
        assert _equal(cold, image_folder(folder, 8))
    _save(folder / "a" / "x" / "01.png", (255, 0, 0))
    os.utime(folder / "a" / "x" / "01.png", ns=(1, 1))
    assert _all(image_folder(folder, 8)).max() == 255
    assert image_folder(folder, 4).train.pixels.shape[-1] == 4


def test_a_broken_or_unwritable_cache_is_no_error(folder, cache, tmp_path, monkeypatch):
    split = image_folder(folder, 8)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert _equal(split, image_folder(folder, 8))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NOISELOOM_CACHE", str(tmp_path / "file" / "below"))
    assert _equal(split, image_folder(folder, 8))


def test_bad_pictures_are_named_or_skipped(folder):
    whole = (folder / "a" / "x" / "03.png").read_bytes()
    (folder / "a" / "x" / "03.png").write_bytes(whole[:40])
    (folder / "b" / "y" / "04.jpg").write_text("<html>")
    with pytest.raises(ValueError, match=r"a/x/03.png .*skip_bad") as info:
        image_folder(folder, 8)
    assert "\n" not in str(info.value)
    for _ in range(2):  # from the files, from the cache
        split = image_folder(folder, 8, skip_bad=True)
        assert len(_all(split)) == 39
        assert split.notes == ("2 pictures cannot be read, the first is a/x/03.png",)


def test_what_cannot_be_loaded_is_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    _save(tmp_path / "one" / "a.png", (1, 2, 3))
    _save(tmp_path / "one" / "b.png", (1, 2, 3))
    _save(tmp_path / "same" / "train" / "a.png", (1, 2, 3))
    _save(tmp_path / "same" / "train" / "c.png", (9, 2, 3))
    _save(tmp_path / "same" / "test" / "b.png", (1, 2, 3))
    for path, error, words in [
        ("nowhere", FileNotFoundError, "no folder or zip file at .*nowhere"),
        ("empty", ValueError, r"no pictures \(bmp, gif"),
        ("text.zip", ValueError, "text.zip is neither a folder nor a readable zip"),
        ("one", ValueError, "1 usable pictures, at least 2"),
        ("same", ValueError, "the train or the test folder .* has no picture of its own"),
    ]:
        with pytest.raises(error, match=words) as info:
            image_folder(tmp_path / path, 8)
        assert "\n" not in str(info.value)
    with pytest.raises(FileNotFoundError, match=r"no file of labels at none\.csv"):
        image_folder(folder, 8, labels="none.csv")
    for options in ({"held_out": 1.0}, {"class_depth": 0}, {"split": "both"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            image_folder(folder, 8, **options)


def test_tiles_take_the_top_folder_and_black(tmp_path):
    root = tmp_path / "tiles"
    for top in ("dngn", "mon"):
        for i in range(5):
            _save(root / top / f"{i}" / "t.png", (40 * i, 7, 9, 128), (32, 32), mode="RGBA")
    split = tiles(root, held_out=0.2)
    assert split.train.classes == ("dngn",)  # the second folder repeats the first
    assert split.notes == ("5 pictures equal an earlier one",)
    assert _all(split)[:, 0, 0, 0].max() == 80


@pytest.mark.parametrize("colour", [(0, 0, 256), (-1, 0, 0), (0.5, 1, 1), (0, 0)])
def test_a_background_is_three_bytes(tmp_path, colour):
    with pytest.raises(ValueError, match="background must be three whole numbers"):
        image_folder(tmp_path, 8, background=colour)


def test_a_link_to_a_folder_above_is_not_followed(folder):
    names = list(files_in(folder))
    (folder / "up").symlink_to(folder.parent / folder.name)
    assert list(files_in(folder)) == names


def test_several_links_to_a_folder_are_each_followed(tmp_path):
    _save(tmp_path / "real" / "1.png", 1)
    data = tmp_path / "data"
    (data / "z").mkdir(parents=True)
    for name in ("train_cat", "also", "z/far"):
        (data / name).symlink_to(tmp_path / "real")
    (tmp_path / "real" / "up").symlink_to(data)  # a loop, by way of the links
    (data / "a").symlink_to("z")
    (data / "above").symlink_to(tmp_path)
    expected = ["a/far/1.png", "above/real/1.png", "also/1.png", "train_cat/1.png", "z/far/1.png"]
    assert list(files_in(data)) == expected
