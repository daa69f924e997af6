"""Texts of one's own: what is read of them, held out of them, and refused."""

import gzip
import io
import lzma
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest
import torch

from noiseloom.data import Characters, Numbers, read_text, text_files
from noiseloom.data.characters import LETTERS

SHARED = Path(os.environ.get("NOISELOOM_DATA", "/nowhere")) / "text"

TEXT = "It was the best of times,\nit was the worst of times. Età d'oro!\n" * 30


@pytest.fixture(params=[1 << 20, 7])
def chunk(request, monkeypatch):
    """Files are larger than a piece, and characters of several bytes lie across pieces."""
    monkeypatch.setattr(text_files, "CHUNK", request.param)


def whole(windows):
    """The parts of the text of windows."""
    return torch.cat([part.long() for part in windows.tensors()[:-1]])


def read(path, length=8, **options):
    """All of a text that was read, and its split."""
    split, vocabulary = read_text(path, length, **options)
    tokens = torch.cat([whole(split.train), whole(split.held_out)])
    return vocabulary.decode(tokens[None])[0], split, vocabulary


def tar(path, files):
    with tarfile.open(
        path, "w:" + {".gz": "gz", ".tgz": "gz", ".xz": "xz"}.get(path.suffix, "")
    ) as f:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            f.addfile(member, io.BytesIO(text.encode()))


KINDS = {
    "x.txt": lambda path: path.write_text(TEXT, encoding="utf-8"),
    "x.TXT": lambda path: path.write_text(TEXT, encoding="utf-8"),
    "x.md": lambda path: path.write_text(TEXT, encoding="utf-8"),
    "x.txt.gz": lambda path: path.write_bytes(gzip.compress(TEXT.encode())),
    "bom.txt": lambda path: path.write_text(TEXT, encoding="utf-8-sig"),
    "dos.txt": lambda path: path.write_bytes(TEXT.replace("\n", "\r\n").encode()),
    "x.tar": lambda path: tar(path, {"a.txt": TEXT}),
    "x.tar.gz": lambda path: tar(path, {"a/b.md": TEXT, "a/c.json": "{}"}),
    "x.tgz": lambda path: tar(path, {"a.txt": TEXT, ".hidden.txt": "no"}),
    "x.tar.xz": lambda path: tar(path, {"a.txt": TEXT[:99], "b.md": TEXT[100:]}),
    "folder": lambda path: [
        (path / "b").mkdir(parents=True),
        (path / ".c").mkdir(),
        (path / ".c" / "no.txt").write_text("no"),
        (path / "a.txt").write_text(TEXT[:99], encoding="utf-8"),
        (path / "b" / "a.md").write_text(TEXT[100:], encoding="utf-8"),
        (path / "b" / "c.rst").write_text("no"),
    ],
}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.usefixtures("chunk")
def test_every_kind_of_file_gives_its_text(tmp_path, name, cached):
    KINDS[name](tmp_path / name)
    text, split, vocabulary = read(tmp_path / name, cache=tmp_path / "c" if cached else None)
    # Two files begin on lines of their own: position 99 is made the end of one.
    expected = TEXT[:99] + "\n" + TEXT[100:] if name in ("x.tar.xz", "folder") else TEXT
    assert text == expected
    assert vocabulary.facts()["characters"] == "".join(sorted(set(expected)))
    assert split.train.text.dtype == torch.uint8
    assert split.notes == ()


@pytest.mark.usefixtures("chunk")
def test_letters_are_folded_across_pieces(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("A" + " .,;\n" * 20 + "bÀÀÀÀÀc" + "?" * 30, encoding="utf-8")
    text, _, vocabulary = read(path, 1, alphabet="letters")
    assert text == "a b c "
    assert vocabulary.facts()["characters"] == LETTERS


def test_the_last_share_is_held_out_and_judged_once(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text(TEXT, encoding="utf-8")
    _, split, vocabulary = read(path, 10, held_out=0.2)
    count = round(0.2 * len(TEXT))
    assert vocabulary.decode(whole(split.train)[None]) == [TEXT[:-count]]
    assert len(split.train) == len(TEXT) - count - 9
    held = split.held_out[torch.arange(len(split.held_out))]["tokens"]
    assert "".join(vocabulary.decode(held)) == TEXT[-count:][: count // 10 * 10]


@pytest.mark.parametrize("seed", range(8))
def test_blocks_that_are_drawn_share_no_window(tmp_path, seed):
    path = tmp_path / "x.txt"
    path.write_text("".join(chr(0x4E00 + i) for i in range(1003)), encoding="utf-8")
    split, _ = read_text(path, 6, blocks=21, held_out=0.3, seed=seed)
    train, held = (set(whole(part).tolist()) for part in (split.train, split.held_out))
    assert not train & held
    assert len(train | held) == 1003
    assert split.train.text.dtype == torch.int16
    assert 6 * 47 <= len(held) <= 6 * 48
    for part in (split.train, split.held_out):
        windows = part[torch.arange(len(part))]["tokens"]
        assert (windows.diff(dim=1) == 1).all()
    assert set(split.train[torch.arange(len(split.train))]["tokens"].flatten().tolist()) == train
    again, _ = read_text(path, 6, blocks=21, held_out=0.3, seed=seed)
    other, _ = read_text(path, 6, blocks=21, held_out=0.3, seed=seed + 100)
    assert again.fingerprint() == split.fingerprint() != other.fingerprint()


def test_another_text_is_read_by_a_vocabulary_that_is_there(tmp_path):
    (tmp_path / "a.txt").write_text("abcabcabc ")
    (tmp_path / "b.txt").write_text("cba cba cba")
    (tmp_path / "c.txt").write_text("cba\ncba cbd")
    _, made = read_text(tmp_path / "a.txt", 1)
    split, same = read_text(tmp_path / "b.txt", 1, vocabulary=made)
    assert same is made
    assert made.decode(whole(split.train)[None]) == ["cba cba cb"]
    with pytest.raises(ValueError, match=r"c\.txt: '\\n', character 4, is none of the 4"):
        read_text(tmp_path / "c.txt", 1, vocabulary=made)
    with pytest.raises(ValueError, match="characters or pieces"):
        read_text(tmp_path / "b.txt", 1, vocabulary=Numbers(3, 3))


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("x.txt", b"", "holds no text"),
        ("x.txt", b"aaaa", "one character only, 'a'"),
        ("x.txt.gz", b"no gzip", "cannot be read"),
        ("x.txt.gz", gzip.compress(b"abc" * 99, mtime=0)[:-9], "cannot be read"),
        ("x.txt", b"ab\nc\nd\xff\n", r"x\.txt, line 3: byte 0xff is not UTF-8"),
        ("x.txt", b"ab\ncd\n\xc3", r"x\.txt, line 3: byte 0xc3 is not UTF-8"),
        ("x.txt", b"ab\n\xc3\ncd", r"x\.txt, line 2: byte 0xc3 is not UTF-8"),
        ("x.txt", b"ab", "the longest stretch to train on has 1 tokens of 2, and a window 2"),
        ("x.txt", b"abababababa", "the longest stretch that is held out has 1 tokens of 11"),
        ("x.pdf", b"abc", r"read are \.txt, \.md files, with or without \.gz, a folder or a tar"),
        ("x.tar.gz", b"no tar", "cannot be read"),
        ("x.tar.xz", lzma.compress(b"no tar"), "cannot be read"),
    ],
)
@pytest.mark.usefixtures("chunk")
def test_what_is_no_text_is_refused_in_a_line(tmp_path, name, data, told, cached):
    (tmp_path / name).write_bytes(data)
    cache = tmp_path / "c" if cached else None
    with pytest.raises(ValueError, match=told) as error:
        read_text(tmp_path / name, 2, cache=cache)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"held_out": 0.0}, "held_out must be between 0 and 1"),
        ({"held_out": 1.0}, "held_out must be between 0 and 1"),
        ({"length": 0}, "length and stride at least 1"),
        ({"stride": 0}, "length and stride at least 1"),
        ({"alphabet": "words"}, "must be all, letters or a .model file, got 'words'"),
        ({"blocks": 1}, r"120 tokens are cut into 2 \.\. 120 blocks, not 1"),
        ({"blocks": 121}, "not 121"),
        ({"blocks": 60}, "fewer blocks"),
        ({"length": 200}, "shorter windows"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, told):
    (tmp_path / "x.txt").write_text("ab c" * 30)
    with pytest.raises(ValueError, match=told):
        read_text(tmp_path / "x.txt", **{"length": 5, **options})


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*none\.txt"):
        read_text(tmp_path / "none.txt", 3)
    with pytest.raises(ValueError, match=r"holds no \.txt, \.md files"):
        read_text(tmp_path, 3)
    tar(tmp_path / "x.tar", {"a.json": "{}"})
    with pytest.raises(ValueError, match=r"x\.tar holds no \.txt, \.md files"):
        read_text(tmp_path / "x.tar", 3)
    (tmp_path / "d.txt").write_text("... 123")
    with pytest.raises(ValueError, match="one token only of letters"):
        read_text(tmp_path / "d.txt", 3, alphabet="letters")


def test_a_cache_is_used_again_until_the_source_changes(tmp_path, monkeypatch):
    path, cache = tmp_path / "x.txt", tmp_path / "deep" / "cache"
    path.write_text(TEXT, encoding="utf-8")
    _, first, vocabulary = read(path, cache=cache)
    kept = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert len(kept) == 2

    with monkeypatch.context() as patched:
        patched.setattr("noiseloom.data.text.texts", None)  # it would be called to read again
        _, again, same = read(path, cache=cache)
    assert again.fingerprint() == first.fingerprint()
    assert same.facts() == vocabulary.facts()
    again.train.text[0] = 60  # what is written to a mapped file is one's own
    assert read(path, cache=cache)[1].fingerprint() == first.fingerprint()

    path.write_text(TEXT + "xyz", encoding="utf-8")
    assert read(path, cache=cache)[0] == TEXT + "xyz"
    assert read(path, cache=cache, alphabet="letters")[2].facts()["characters"] == LETTERS
    wider = Characters(vocabulary.facts()["characters"] + "xyz")
    assert read(path, cache=cache, vocabulary=wider)[0] == TEXT + "xyz"
    assert len(list(cache.iterdir())) == 8
    assert all(file.stat().st_mtime_ns == time for file, time in kept.items())


def test_a_damaged_cache_is_named(tmp_path):
    path, cache = tmp_path / "x.txt", tmp_path / "cache"
    path.write_text(TEXT, encoding="utf-8")
    read(path, cache=cache)
    (tokens,) = cache.glob("*.tokens")
    (about,) = cache.glob("*.json")
    tokens.write_bytes(tokens.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"damaged .*: remove that file"):
        read(path, cache=cache)
    about.unlink()  # as the error says; the same if writing ended between the two
    assert read(path, cache=cache)[0] == TEXT
    about.write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        read(path, cache=cache)
    with pytest.raises(OSError, match=r"tokens cannot be written to .*x\.txt: File exists"):
        read(path, cache=path)


def test_a_source_that_may_not_be_read_is_not_taken_for_a_full_disk(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    path.write_text(TEXT, encoding="utf-8")

    usual = Path.open

    def refused(file, *options, **named):
        if file == path:
            raise PermissionError(13, "Permission denied")
        return usual(file, *options, **named)

    monkeypatch.setattr(Path, "open", refused)
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(ValueError, match=r"x\.txt cannot be read: .*Permission denied"):
            read(path, cache=cache, alphabet="letters")


@pytest.mark.parametrize("by_numpy", [True, False])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, by_numpy):
    path, cache = tmp_path / "x.txt", tmp_path / "cache"
    path.write_text(TEXT, encoding="utf-8")

    def full(*_):
        raise OSError("9 requested and 0 written") if by_numpy else OSError(28, "No space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match=r"tokens cannot be written to .*(0 written|No space left)"):
        read(path, cache=cache)
    assert not list(cache.iterdir())


def test_memory_does_not_grow_with_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "CHUNK", 1 << 12)
    peaks = []
    for times in (20, 400):
        path = tmp_path / f"{times}.txt"
        path.write_text(TEXT * times, encoding="utf-8")
        tracemalloc.start()
        split, _ = read_text(path, 8, cache=tmp_path)
        split.train[torch.arange(3)]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(split.train.text) == len(TEXT) * times
    assert len(TEXT) * 400 > 5e5 > peaks[1]
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.skipif(not SHARED.exists(), reason="real texts are not here: set NOISELOOM_DATA")
def test_real_texts(tmp_path):
    text, split, vocabulary = read(SHARED / "tinyshakespeare.txt.gz", 256)
    assert len(text) == 1_115_394
    assert vocabulary.sizes == (65,)
    assert len(split.held_out) == round(0.1 * len(text)) // 256
    split, vocabulary = read_text(
        SHARED / "classic_books_md.tar.xz", 256, alphabet="letters", cache=tmp_path
    )
    assert vocabulary.sizes == (27,)
    assert len(split.train.text) > 6e7
    assert set(vocabulary.decode(split.train[torch.arange(9)]["tokens"])[0]) <= set(LETTERS)
