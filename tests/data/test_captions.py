"""Pictures with captions: what is read of each kind of set, what is held out, what is refused."""

import io
import json
import os
from pathlib import Path

import caption_cases as cases
import pytest
import torch
from PIL import Image

from noiseloom.data import CaptionPairs, Phrases, Pieces, Split, holds, read_captions, vocabulary
from noiseloom.data.decode import Framing, decode, read_picture

SHARED = Path(os.environ.get("NOISELOOM_DATA", "/nowhere")) / "captions"

KINDS = {
    "texts": cases.files_of_texts,
    "table": cases.files_of_table,
    "coco": cases.files_of_coco,
    "emoji": cases.files_of_emoji,
    "nlvr": cases.files_of_nlvr,
}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISELOOM_CACHE", str(tmp_path / "cache"))


def rows(part, words):
    """Colour of each row's picture (of its largest part), with its caption."""
    batch = part[torch.arange(len(part))]
    colours = batch["pixels"].float().mean((2, 3))
    return list(zip(colours.tolist(), words.decode(batch["tokens"]), strict=True))


def named(rgb):
    """The colour of a wall, or of a lighter one."""
    return min(
        cases.COLOURS,
        key=lambda n: sum((a - b) ** 2 for a, b in zip(cases.COLOURS[n], rgb, strict=True)),
    )


def said(split):
    """All captions of both parts."""
    return [t for part in (split.train, split.held_out) for own in part.captions for t in own]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_its_pictures_with_their_captions(tmp_path, kind, packed):
    path = cases.written(KINDS[kind](), tmp_path / "set", packed)
    options = {"size": 4, "fit": "crop", "held_out": 0.25}
    split, words = read_captions(path, **options)
    every = Phrases.fit(said(split), "words", words.length)  # those of the held-out ones too
    assert every.sizes[0] > words.sizes[0]
    split, words = read_captions(path, vocabulary=every, **options)
    assert words is every
    assert split.train.pictures.shape[1:] == (3, 4, 4)
    for part in (split.train, split.held_out):
        assert part.sizes == words.sizes
        assert not part.judged
        for row, (rgb, text) in enumerate(rows(part, words)):
            assert named(rgb) in text
            own = words.decode(words.encode(part.references[row]))
            assert text == own[0] if part is split.held_out else text in own
            assert part.truth(row, text) is None
    pictures = {"emoji": (12, 4), "nlvr": (12, 2)}.get(kind, (3, 1))
    each = 1 if kind in ("emoji", "nlvr") else 2
    assert (len(split.train.captions), len(split.held_out.captions)) == pictures
    assert (len(split.train), len(split.held_out)) == (each * pictures[0], pictures[1])
    again = vocabulary(json.loads(json.dumps(words.facts())))
    same, _ = read_captions(path, vocabulary=again, **options)
    assert same.fingerprint() == split.fingerprint()
    if kind not in ("emoji", "nlvr"):
        expected = [" ".join(text.split()) for own in cases.SAID.values() for text in own]
        assert sorted(said(split)) == sorted(expected)


@pytest.mark.parametrize("kind", ["emoji", "nlvr"])
@pytest.mark.parametrize("seed", range(4))
def test_what_belongs_together_is_not_parted(tmp_path, kind, seed):
    path = cases.written(KINDS[kind](), tmp_path / "set")
    split, words = read_captions(path, size=4, fit="crop", held_out=0.3, seed=seed)
    train, held = ({named(rgb) for rgb, _ in rows(p, words)} for p in (split.train, split.held_out))
    assert len(held) == 1
    assert train | held == set(cases.COLOURS)
    assert not train & held


def test_only_true_sentences_of_nlvr_are_read(tmp_path):
    split, _ = read_captions(cases.written(cases.files_of_nlvr(), tmp_path), size=(4, 16))
    assert len(said(split)) == 14
    assert split.train.pictures.shape[1:] == (3, 4, 16)
    assert "there is nothing" not in said(split)
    assert split.notes[0] == "1 sentences of dev/dev.json are false of their pictures"


def test_skin_tones_are_told(tmp_path):
    split, _ = read_captions(cases.written(cases.files_of_emoji(), tmp_path), size=4)
    assert said(split).count("red wall, light skin tone") == 2
    assert said(split).count("red wall") == 2


def test_packages_of_emoji_beside_each_other_share_their_codes(tmp_path):
    for number, style in enumerate(("google", "twitter")):
        files = cases.files_of_emoji((style,))
        files = {n: c if n.endswith("json") else cases.png((9 * number, len(n), i))
                 for i, (n, c) in enumerate(files.items())}  # fmt: skip
        cases.written(files, tmp_path / style)
    (tmp_path / "twitter" / "img" / "twitter" / "64" / "1f600.png").unlink()
    for seed in range(4):
        split, _ = read_captions(tmp_path, size=4, held_out=0.3, seed=seed)
        words = [
            {own[0].split(",")[0] for own in p.captions} for p in (split.train, split.held_out)
        ]
        assert len(words[0] | words[1]) == 4
        assert not words[0] & words[1]
        assert len(said(split)) == 15
        assert "1 emoji of twitter/emoji.json have no picture" in split.notes


def test_coco_s_own_parts_are_kept(tmp_path):
    files = cases.files_of_coco()
    first = json.loads(files["annotations/captions_val2017.json"])
    second = {
        "images": [{"id": 9, "file_name": "red.jpg"}, {"id": 10, "file_name": "other.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 9, "caption": "another one"},
            {"id": 2, "image_id": 10, "caption": "a copy of blue"},
        ],
    }
    files["annotations/captions_train2017.json"] = json.dumps(second)
    files["train2017/red.jpg"] = cases.png((250, 250, 0), kind="JPEG")  # a name of val, too
    files["train2017/other.jpg"] = cases.png(cases.COLOURS["blue"], kind="JPEG")
    path = cases.written(files, tmp_path)
    split, words = read_captions(path, size=4)
    assert sorted(text for _, text in rows(split.train, words)) == ["a copy of blue", "another one"]
    colour = next(rgb for rgb, text in rows(split.train, words) if text == "another one")
    assert colour[0] > 200
    assert colour[1] > 200
    # The blue picture of val is one of train: it is left out.
    assert {named(rgb) for rgb, _ in rows(split.held_out, words)} == {"red", "green", "grey"}
    assert any("1 pictures are of no part, or held out" in note for note in split.notes)
    # A file alone is split by shares; its pictures may lie elsewhere.
    alone = path / "annotations" / "captions_val2017.json"
    split, _ = read_captions(alone, size=4, images=path / "val2017")
    assert (len(split.train), len(split.held_out)) == (6, 1)
    assert "all pictures are of one part, so a share of them was held out" in split.notes
    (path / "captions.json").write_text(json.dumps(first))
    with pytest.raises(ValueError, match=r"may be any of train2017/red\.jpg, val2017/red\.jpg"):
        read_captions(path / "captions.json", size=4)


def test_tables_name_parts_and_groups(tmp_path):
    files = cases.files_of_table()
    files["captions.tsv"] = (
        "Image\tText\tsplit\tgroup\n"
        "pictures/red.png\ta red wall\ttrain\ta\n"
        "pictures/green.png\ta green wall\tval\ta\n"
        "pictures/blue.png\ta blue wall\ttest\tb\n"
    )
    path = cases.written(files, tmp_path) / "captions.tsv"
    split, words = read_captions(path, size=4)
    assert [text for _, text in rows(split.train, words)] == ["a red wall"]
    assert len(split.held_out) == 1  # green belongs to red
    assert split.held_out.references == (("a blue wall",),)
    with pytest.raises(ValueError, match=r"name one of captions\.csv, captions\.tsv"):
        read_captions(tmp_path, size=4)


def test_equal_pictures_and_equal_captions_can_be_kept_together(tmp_path):
    files = cases.files_of_texts()
    files["copy.png"], files["copy.txt"] = files["red.png"], "Another!"
    files["more.png"], files["more.txt"] = cases.png((1, 2, 3)), "A Blue Wall."
    path = cases.written(files, tmp_path)
    for seed in range(6):
        split, words = read_captions(path, size=4, held_out=0.4, seed=seed)
        held = [tuple(map(round, rgb)) for rgb, _ in rows(split.held_out, words)]
        assert held.count((200, 0, 0)) in (0, 2)
        apart, _ = read_captions(path, size=4, held_out=0.4, seed=seed, apart="captions")
        words_held = {t.lower().strip(".!") for own in apart.held_out.captions for t in own}
        words_train = {t.lower().strip(".!") for own in apart.train.captions for t in own}
        assert not words_held & words_train
        assert not any("also one to train on" in note for note in apart.notes)
    notes = [read_captions(path, size=4, seed=seed)[0].notes for seed in range(12)]
    assert any("1 have a caption that is also one to train on" in str(note) for note in notes)


def test_scenes_are_made_and_judged():
    split, words = read_captions("scenes", size=32, scenes=60, each=3, held_out=0.2)
    assert (len(split.train.captions), len(split.held_out)) == (48, 12)
    assert len(split.train) > 130
    for part in (split.train, split.held_out):
        assert part.judged
        batch = part[torch.arange(len(part))]
        for row, text in enumerate(words.decode(batch["tokens"])):
            assert text in part.references[row]
            assert part.truth(row, text) is True
            scene = part.scenes[int(part.picture[row])]
            assert (scene.pixels(32) == batch["pixels"][row]).all()
            assert part.truth(row, "there is a circle") is holds(scene, "there is a circle")
        assert part.truth(0, "a cat") is None
    assert not set(split.train.scenes) & set(split.held_out.scenes)
    assert words.sizes[0] == 58
    _, fewer = read_captions("scenes", size=32, scenes=60, each=3, held_out=0.2, classes=20)
    assert fewer.sizes[0] == 20
    again, _ = read_captions("scenes", size=32, scenes=60, each=3, held_out=0.2)
    assert again.fingerprint() == split.fingerprint()
    other, _ = read_captions("scenes", size=32, scenes=60, each=3, held_out=0.2, seed=1)
    assert other.fingerprint() != split.fingerprint()


def test_the_vocabulary_is_of_the_captions_to_train_on(tmp_path):
    path = cases.written(cases.files_of_texts(), tmp_path)
    for units in ("words", "characters", "pieces"):
        split, words = read_captions(path, size=4, vocabulary=units)
        held = next(iter(split.held_out.captions))[0].split()[1]
        assert held not in words.symbols
        if units != "characters":
            assert any("have " in note and "the vocabulary lacks" in note for note in split.notes)
        free = words.of_length(100)
        assert words.length == max(len(free.tokens(text)) for text in said(split))
    split, words = read_captions(path, size=4, vocabulary="pieces", classes=18, length=30)
    assert words.sizes == (18,) * 30
    split, words = read_captions(path, size=4, vocabulary="pieces", classes=200)
    assert any("pieces, and 199 were asked for" in note for note in split.notes)
    model = tmp_path / "x.model"
    model.write_bytes(words.pieces.model)
    _, read = read_captions(path, size=4, vocabulary=str(model))
    assert read.symbols == Pieces.read(model).symbols


def test_longer_captions_are_cut_when_asked(tmp_path):
    path = cases.written(cases.files_of_texts(), tmp_path)
    with pytest.raises(ValueError, match=r"\.txt, line 3: a caption of 4 words, and 3 is the most"):
        read_captions(path, size=4, length=3)
    split, words = read_captions(path, size=4, length=3, truncate=True)
    assert {text for _, text in rows(split.train, words)} >= {"all is red"}
    assert "3 captions to train on are longer than 3 words, and cut" in split.notes
    assert "1 held-out captions are longer than 3 words, and cut" in split.notes


def test_parts_share_pictures_and_are_hashed_as_if_each_had_its_own(monkeypatch):
    monkeypatch.setattr("noiseloom.data.captions._BLOCK", 3)
    split, _ = read_captions("scenes", size=24, scenes=12, each=2)
    assert split.train.pictures is split.held_out.pictures
    copies = [part.to("cpu") for part in (split.train, split.held_out)]
    assert sum(map(len, (copy.pictures for copy in copies))) == len(split.train.pictures) == 12
    assert Split(*copies).fingerprint() == split.fingerprint()
    for part, copy in zip((split.train, split.held_out), copies, strict=True):
        assert part.nbytes == sum(x.nbytes for x in (copy.pictures, copy.values, copy.picture))
        rows = torch.arange(len(part)).flip(0)
        assert torch.equal(part[rows]["pixels"], copy.pictures[copy.picture[rows]])


def test_a_batch_goes_to_a_device():
    split, _ = read_captions("scenes", size=24, scenes=4, each=2)
    assert split.train.to("meta").pictures.is_meta
    same = split.train.to("cpu")
    assert same.references == split.train.references
    batch, expected = same[torch.tensor([2, 0])], split.train[torch.tensor([2, 0])]
    assert all((batch[key] == expected[key]).all() for key in expected)
    assert batch["tokens"].dtype == torch.int64
    assert batch["pixels"].dtype == torch.uint8


def changed(name, content):
    def make(files):
        return files | {name: content}

    return make


def without(name):
    return lambda files: {n: c for n, c in files.items() if n != name}


COCO = "annotations/captions_val2017.json"


def noted(**changes):
    """COCO's files with another annotation 100."""

    def make(files):
        content = json.loads(files[COCO])
        next(note for note in content["annotations"] if note["id"] == 100).update(changes)
        return files | {COCO: json.dumps(content)}

    return make


RECORD = '{"sentence": "a", "identifier": "1-0", "label": "maybe", "structured_rep": [[]]}'
HEAD = "picture,text\n"
WRONG = [
    ("texts", changed("red.txt", " \n"), "red.txt: the caption is empty"),
    ("texts", changed("red.png", b"no"), "cannot read the picture red.png"),
    ("texts", changed("red.txt", b"\xff"), "red.txt is not UTF-8"),
    ("table", changed("captions.csv", HEAD + "pictures/red.png, \n"), "line 2: the caption is"),
    ("table", changed("captions.csv", HEAD + "no.png,a\n"), "line 2: there is no picture no.png"),
    ("table", changed("captions.csv", "a,b\n1,2\n"), "needs a column picture .* it has a, b"),
    ("table", changed("captions.csv", "picture,text\nx\n"), "line 2: more or fewer cells"),
    (
        "table",
        changed("captions.csv", "picture,text,split\npictures/red.png,a,never\n"),
        "line 2: 'never' in the column 'split' is neither train nor test",
    ),
    (
        "table",
        changed(
            "captions.csv",
            HEAD.replace("\n", ",part\n") + "pictures/red.png,a,train\npictures/red.png,a,val\n",
        ),
        "line 3: pictures/red.png is in two parts",
    ),
    ("coco", changed(COCO, "{"), "captions_val2017.json is no JSON"),
    ("coco", changed(COCO, "[]"), "expected a JSON dict, got list"),
    ("coco", changed(COCO, '{"images": []}'), "no file of captions of COCO, .*annotations"),
    (
        "coco",
        changed(COCO, '{"images": 3, "annotations": []}'),
        r"images must be a list, and it is int",
    ),
    ("coco", noted(caption=None), "annotation 100: the caption must be a text, got null"),
    ("coco", noted(image_id=77), "annotation 100: it is of image 77, which is not among the im"),
    ("coco", noted(image_id=[1]), "no file of captions of COCO, or damaged"),
    ("coco", without("val2017/red.jpg"), "image 0: there is no picture red.jpg"),
    ("emoji", changed("emoji.json", '[{"name": "A"}]'), "entry 1 is no emoji: .*unified"),
    ("nlvr", changed("dev/dev.json", "{}\n"), "dev/dev.json, line 1 is no record of NLVR"),
    ("nlvr", changed("dev/dev.json", "\n" + RECORD), "line 2: the label is 'maybe'"),
    (
        "nlvr",
        changed("dev/dev.json", RECORD.replace("maybe", "true")),
        r"line 1: there is no picture dev-1-0-\*.png",
    ),
]


@pytest.mark.parametrize(("kind", "change", "message"), WRONG)
def test_what_is_wrong_is_named_by_file_and_line(tmp_path, kind, change, message):
    path = cases.written(change(KINDS[kind]()), tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        read_captions(path, size=4)
    assert "\n" not in str(caught.value)


def test_bad_ones_can_be_left_out(tmp_path):
    files = cases.files_of_texts() | {"red.txt": "", "blue.png": b"no"}
    split, _ = read_captions(cases.written(files, tmp_path / "a"), size=4, skip_bad=True)
    assert len(split.train.captions) + len(split.held_out) == 2
    assert "1 captions are empty" in split.notes
    assert "1 pictures cannot be read" in split.notes
    files = without("val2017/red.jpg")(cases.files_of_coco())
    split, _ = read_captions(cases.written(files, tmp_path / "b"), size=4, skip_bad=True)
    assert len(split.train.captions) + len(split.held_out) == 3
    assert split.notes[0].startswith("1 pictures are not there, the first is of annotations/")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": 1.0}, "held_out must be between 0 and 1"),
        ({"length": 0}, "at least 1"),
        ({"size": (0, 3)}, "at least 1"),
        ({"fit": "squeeze"}, "pad, crop or stretch"),
        ({"apart": "words"}, "pictures or captions"),
        ({"vocabulary": "letters"}, "words, characters, pieces or a .model file"),
        ({"background": (0, 0, 300)}, "three whole numbers"),
        ({"length": 3, "vocabulary": Phrases("words", ("a",), 2)}, "of 2 tokens a caption"),
        (
            {"vocabulary": Phrases("words", ("a",), 9)},
            "line 1: '.*', word 2, is none of the 1 words",
        ),
        ({"images": "."}, "images is for a .json, .csv or .tsv file"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, message):
    path = cases.written(cases.files_of_texts(), tmp_path)
    with pytest.raises(ValueError, match=message):
        read_captions(path, **({"size": 4} | options))


def test_paths_that_hold_no_captions_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        read_captions(tmp_path / "nothing")
    (tmp_path / "a.png").write_bytes(cases.png((1, 1, 1)))
    with pytest.raises(ValueError, match="no pictures with captions in"):
        read_captions(tmp_path)
    with pytest.raises(ValueError, match=r"are read from a folder, \.zip, \.json"):
        read_captions(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("one")
    with pytest.raises(ValueError, match="1 usable pictures, at least 2"):
        read_captions(tmp_path)
    for name in "bc":
        (tmp_path / f"{name}.png").write_bytes(cases.png((1, 1, 1)))
        (tmp_path / f"{name}.txt").write_text(name)
    with pytest.raises(ValueError, match="all 3 pictures belong together"):
        read_captions(tmp_path)
    with pytest.raises(ValueError, match="squares of 24 pixels or more"):
        read_captions("scenes", size=16)
    with pytest.raises(ValueError, match="squares of 24 pixels or more"):
        read_captions("scenes", size=(32, 64))


def test_pairs_must_fit():
    pictures, values = torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.zeros(2, 3)
    with pytest.raises(TypeError, match="uint8 pictures and int64"):
        CaptionPairs(pictures.int(), values, torch.zeros(2).long(), (("a",),), (2,) * 3)
    with pytest.raises(ValueError, match="N >= 1"):
        CaptionPairs(pictures, values, torch.zeros(3).long(), (("a",),), (2,) * 3)
    with pytest.raises(ValueError, match="each picture needs its captions"):
        CaptionPairs(pictures, values, torch.zeros(2).long(), (("a",), ("b",)), (2,) * 3)


def test_pictures_of_other_shapes_are_made_to_fit():
    # Left half red, right half blue, 40 x 10.
    image = Image.new("RGB", (40, 10), (200, 0, 0))
    image.paste((0, 0, 200), (20, 0, 40, 10))
    data = io.BytesIO()
    image.save(data, "PNG")
    made = {
        fit: decode(data.getvalue(), Framing((20, 20), (9, 9, 9), fit))
        for fit in ("crop", "pad", "stretch")
    }
    assert all(picture.shape == (3, 20, 20) for picture in made.values())
    # Padded: 20 x 5 in the middle, the background above and below.
    pad = made["pad"]
    assert (pad[:, :7] == 9).all()
    assert (pad[:, 12:] == 9).all()
    assert pad[:, 9, 2].tolist() == [200, 0, 0]
    assert pad[:, 9, 17].tolist() == [0, 0, 200]
    for fit in ("crop", "stretch"):
        assert made[fit][:, 1, 2].tolist() == [200, 0, 0]
        assert made[fit][:, 18, 17].tolist() == [0, 0, 200]
    # In its own shape nothing is lost, whichever way.
    whole = [decode(data.getvalue(), Framing((10, 40), fit=fit)) for fit in made]
    assert all((picture == whole[0]).all() for picture in whole)
    assert (whole[0][2, :, 20:] == 200).all()
    # Cropped to twice as high as wide: the middle, 5 wide.
    high = decode(data.getvalue(), Framing((8, 4)))
    assert high.shape == (3, 8, 4)


def test_one_picture_is_read_as_those_of_a_set(tmp_path):
    split, _ = read_captions(cases.written(cases.files_of_texts(), tmp_path), size=(4, 6))
    read = [
        read_picture(tmp_path / f"{name}.png", Framing((4, 6), fit="pad")) for name in cases.COLOURS
    ]
    every = torch.cat([split.train.pictures, split.held_out.pictures])
    assert all(any((one == other).all() for other in every) for one in read)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_picture(tmp_path / "none.png", Framing(4))
    with pytest.raises(ValueError, match=r"cannot read the picture .*red\.txt \(unknown format\)$"):
        read_picture(tmp_path / "red.txt", Framing(4))


@pytest.mark.skipif(not SHARED.exists(), reason="needs NOISELOOM_DATA")
def test_the_subset_of_nlvr_is_read():
    split, words = read_captions(SHARED / "nlvr_subset.zip", size=(25, 100), apart="captions")
    assert len(split.train) + len(split.held_out) == 2 * 1649
    assert words.length == 23
    train = {text for own in split.train.captions for text in own}
    assert not train & {text for own in split.held_out.captions for text in own}
