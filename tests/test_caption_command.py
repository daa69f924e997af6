"""`noiseloom caption`, and what reports show of captions; bad input is one line."""

import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import noiseloom
from noiseloom.captioning import captions_of
from noiseloom.cli import main
from noiseloom.data.decode import read_picture
from noiseloom.data.scenes import random_scenes
from noiseloom.rng import Rng

TINY = ["--width", "16", "--depth", "1", "--heads", "2", "--encoder-width", "16"]
TINY += ["--encoder-depth", "1", "--encoder-heads", "2", "--steps", "3", "--batch-size", "8"]
TINY += ["--samples", "6", "--judged", "4", "--levels", "2", "--sampling-steps", "3"]
WORLD = ["--data", "scenes", "--scenes", "60", "--each", "2", "--size", "24", "--patch", "8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures, something that is none, and a run of bits."""
    place = tmp_path_factory.mktemp("captions")
    for i, (scene, _) in enumerate(random_scenes(2, 1, Rng(5))):
        array = scene.pixels(40).permute(1, 2, 0).numpy()
        Image.fromarray(array).save(place / f"{i}.png")
    (place / "none.png").write_text("no picture at all")
    whole = (place / "0.png").read_bytes()
    (place / "half.png").write_bytes(whole[: len(whole) // 2])
    assert (
        main(["train", "captions", *WORLD, *TINY, "--state", "bits", "--out", f"{place}/run"]) == 0
    )
    return place


def test_a_run_says_what_is_in_pictures(folder, capsys):
    capsys.readouterr()
    pictures = [str(folder / "0.png"), str(folder / "1.png")]
    command = ["caption", str(folder / "run"), *pictures, "--seed", "3", "-n", "2"]
    assert main([*command, "--json", "--td", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["picture"] for one in found["captions"]] == [p for p in pictures for _ in range(2)]
    assert found["options"]["td"] == 1
    run = noiseloom.load(folder / "run").with_options(td=1.0)
    pixels = torch.stack(
        [read_picture(folder / f"{i}.png", run.recipe.framing) for i in (0, 0, 1, 1)]
    )
    own = captions_of(run, pixels, seed=3)
    assert [one["caption"] for one in found["captions"]] == [c.text for c in own]
    for one, ours in zip(found["captions"], own, strict=True):
        assert [w["word"] for w in one["words"]] == [w for w, _ in ours.words]
        assert [w["confidence"] for w in one["words"]] == [round(s, 4) for _, s in ours.words]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    said = [line for line in lines if line.startswith(str(folder))]
    assert len(said) == 4
    assert main([*command[:2], "--td", "1", pictures[0]]) == 0  # options may come first
    assert str(folder / "0.png") in capsys.readouterr().out


def test_a_caption_of_nothing_says_so(folder, capsys, monkeypatch):
    monkeypatch.setattr("noiseloom.captioning.words_of", lambda *_: ("", ()))
    assert main(["caption", str(folder / "run"), str(folder / "0.png")]) == 0
    assert capsys.readouterr().out.strip().endswith("(nothing)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.png"], "cannot read the picture"),
        (["half.png"], "half.png"),
        (["0.png", "gone.png"], "there is no file"),
        (["."], "is a folder: name the pictures in it"),
        ([], "PICTURE is missing"),
        (["0.png", "-n", "0"], "-n must be at least 1"),
        (["0.png", "--beams", "3"], "beams are of state autoregressive"),
        (["0.png", "--td", "-1"], "td must be at least 0"),
        (["0.png", "--beam", "3"], "did you mean --beams"),
    ],
)
def test_what_cannot_be_captioned_is_one_line(folder, capsys, words, message):
    capsys.readouterr()
    told = [str(folder / w) if w.endswith((".png", ".")) else w for w in words]
    assert main(["caption", str(folder / "run"), *told]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]


def test_options_are_chosen_on_one_half_and_reported_of_the_other(folder, capsys):
    out = str(folder / "run")
    for half in ("first", "second"):
        assert main(["evaluate", out, "--half", half, "--td", "1"]) == 0
        kept = json.loads((folder / "run" / "evaluations" / f"td=1.0,half={half}.json").read_text())
        assert kept["n"] == 3  # of six
    capsys.readouterr()
    assert main(["evaluate", "bits-digits", "--half", "first"]) == 2
    assert "'half' is no option of sampling" in capsys.readouterr().err


def test_a_run_can_be_judged_by_how_alike_sentences_are(folder, capsys, monkeypatch):
    """Though it was trained without what judges them."""
    kept = folder / "run" / "evaluations" / "similarity=True,half=first.json"
    words = ["evaluate", str(folder / "run"), "--half", "first", "--similarity", "true"]

    def missing():
        raise ImportError("similarity needs the extra eval")

    monkeypatch.setattr("noiseloom.recipes.captions.Sentences", missing)
    capsys.readouterr()
    assert main(words) == 2
    assert "the extra eval" in capsys.readouterr().err
    assert not kept.exists()
    judge = SimpleNamespace(likeness=lambda captions, _: (len(captions) / 8, 0.0))
    monkeypatch.setattr("noiseloom.recipes.captions.Sentences", lambda: judge)
    assert main(words) == 0
    assert json.loads(kept.read_text())["similarity"] == 3 / 8


def test_a_run_is_judged_on_its_own_data_however_rare_their_words(tmp_path, capsys):
    """And compared where its captions are cut."""
    own = write(tmp_path / "own", [f"{'abcdefghij'[i % 10] * 3} tile{i} {i}" for i in range(20)])
    common = ["--data", str(own), "--size", "24", "--patch", "8", *TINY]
    few = [*common, "--classes", "3"]
    assert main(["train", "captions", *few, "--out", str(tmp_path / "run")]) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    cut = [*common, "--length", "2", "--truncate", "--cells", "state=bits", "state=masked"]
    assert main(["train", "captions", *cut[:-3], "--out", str(tmp_path / "cut")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "cut"), "--truncate", "false"]) == 2
    assert "2 is the most there can be" in capsys.readouterr().err
    assert main(["compare", "captions", *cut, "--out", str(tmp_path / "both")]) == 0
    kept = json.loads((tmp_path / "both" / "table.json").read_text())
    assert len(kept["cells"]) == 2


def test_options_of_other_data_are_said(tmp_path, capsys):
    own = write(tmp_path / "own", ["a red tile", "a blue tile"] * 5)
    for data, words, said in (
        ("scenes", ["--scenes", "60", "--fit", "crop"], "fit changes nothing of scenes"),
        (str(own), ["--scenes", "60"], "scenes changes nothing of pictures that are read"),
    ):
        out = str(tmp_path / said)
        small = ["--size", "24", "--patch", "8", *TINY, "--no-evaluate", "--out", out]
        assert main(["train", "captions", "--data", data, *words, *small]) == 0
        assert capsys.readouterr().err.count(f"data: {said}\n") == 1


def test_a_search_finds_no_second_caption(tmp_path, capsys):
    out, picture = str(tmp_path / "run"), tmp_path / "0.png"
    Image.new("RGB", (24, 24)).save(picture)
    small = ["--size", "24", "--patch", "8", "--scenes", "60", *TINY, "--no-evaluate"]
    words = ["train", "captions", "--data", "scenes", *small, "--state", "autoregressive"]
    assert main([*words, "--out", out]) == 0
    command = ["caption", out, str(picture), "-n", "2"]
    for search in (["--beams", "2"], ["--temperature", "0"]):
        capsys.readouterr()
        assert main([*command, *search]) == 2
        assert "the same caption 2 times" in capsys.readouterr().err
    assert main(command) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--encoder-heads", "3"], "a multiple of 4 and of encoder_heads, got 16 and 3"),
        (["--encoder", "lite0"], "encoder_width changes nothing of encoder lite0"),
        (["--length", "0"], "length must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_trained_is_one_line(words, message, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", "captions", "--data", "scenes", "--size", "24", *TINY, *words]
    assert main([*command, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_no_guide_leads_captions(capsys):
    for words in (["--half", "first"], ["--similarity", "true"], ["--truncate", "true"]):
        assert main(["evaluate", "RUN", "--guide", "GUIDES", *words]) == 2
        assert f"{words[0]} is of captions" in capsys.readouterr().err


def test_other_runs_say_nothing_and_captions_are_no_samples(folder, capsys):
    assert main(["caption", "bits-digits", str(folder / "0.png")]) == 2
    assert "it is a run of bits-digits" in capsys.readouterr().err
    assert main(["sample", str(folder / "run")]) == 2
    assert "noiseloom caption" in capsys.readouterr().err


def test_a_report_shows_pictures_captions_and_steps(folder):
    page = (folder / "run" / "report.html").read_text()
    assert "From noise to caption" in page
    assert page.count("<figcaption>") == 6  # as many as are held out
    assert "noiseloom caption run PICTURE.png" in page
    table = page.split("From noise to caption")[1].split("</table>")[0]
    assert table.count("<tr>") == 1 + 3
    assert "after 3 of their 3 steps" in page
    found = json.loads((folder / "run" / "evaluation.json").read_text())
    assert {"true", "bleu_4", "rouge_l", "invalid_codes", "bits_per_token"} <= found.keys()
    assert found["network_evaluations"] == 3  # of the decoder; the encoder's call is none


@pytest.mark.parametrize("state", ["masked", "autoregressive"])
def test_reports_of_other_states(state, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["train", "captions", *WORLD, *TINY, "--state", state, "--out", out]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert ("From noise to caption" in page) is (state == "masked")
    picture = tmp_path / "a.png"
    Image.new("RGB", (30, 20), "white").save(picture)
    extra = ["--unmask", "confidence"] if state == "masked" else ["--beams", "2"]
    assert main(["caption", out, str(picture), *extra]) == 0
    assert str(picture) in capsys.readouterr().out
    if state == "autoregressive":
        assert "steps of ddim" not in page
        assert "token by token" in page
        for command in (["evaluate", out], ["caption", out, str(picture)]):
            assert main([*command, "--sampling-steps", "5"]) == 2
            said = capsys.readouterr().err
            assert "sampling_steps changes nothing of state autoregressive" in said
        assert main(["caption", out, str(picture), "--json"]) == 0
        options = json.loads(capsys.readouterr().out)["options"]
        assert "temperature" in options
        assert "sampling_steps" not in options


def write(folder, captions):
    folder.mkdir()
    for i, caption in enumerate(captions):
        Image.new("RGB", (24, 24), (40 * i % 255, 90, 10 * i % 255)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(caption + "\n")
    return folder


def test_captions_of_ones_own_are_read_trained_and_judged_by_their_words(tmp_path, capsys):
    own = write(tmp_path / "own", [f"a tile number {'abcdefghij'[i % 10]}" for i in range(20)])
    out = str(tmp_path / "run")
    small = ["--size", "24", "--patch", "8"]
    assert main(["train", "captions", "--data", str(own), *small, *TINY, "--out", out]) == 0
    other = write(tmp_path / "other", ["a tile number a"] * 6 + ["a zebra number b"] * 6)
    assert main(["evaluate", out, "--data", str(other)]) == 0
    # Captions of other data may be longer than any that the run has: its length cannot be changed.
    longer = write(tmp_path / "longer", [f"a tile number {c} of many others" for c in "abcabc"])
    capsys.readouterr()
    assert main(["evaluate", out, "--data", str(longer)]) == 2
    assert "4 is the most there can be" in capsys.readouterr().err
    assert main(["evaluate", out, "--data", str(longer), "--truncate", "true"]) == 0
    assert "captions are longer than 4 words, and cut" in capsys.readouterr().err
    assert [*(tmp_path / "run" / "evaluations").glob("*truncate=True*.json")]
    # Nor are captions judged of whose words the run has none, or next to none.
    german = write(tmp_path / "german", [f"eine Kachel ist {c}" for c in "abcabc"])
    assert main(["evaluate", out, "--data", str(german)]) == 2
    assert "are not in the run's vocabulary" in capsys.readouterr().err
    assert main(["evaluate", "bits-digits", "--truncate", "true"]) == 2
    assert "truncate is of captions" in capsys.readouterr().err
    # A resumed run whose words are now others is refused, in a line that does not list them.
    (own / "3.txt").write_text("a most surprising tile\n")
    assert main(["train", "captions", "--out", out, "--resume", "--steps", "5"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the data are not those" in said
    assert len(said) < 400


def test_weights_are_not_taken_where_their_tokens_mean_other_words(folder, tmp_path, capsys):
    small = ["--size", "24", "--patch", "8", *TINY, "--no-evaluate"]
    first = write(tmp_path / "first", ["a red tile", "a blue tile"] * 5)
    other = write(tmp_path / "other", ["a red toad", "a blue toad"] * 5)
    run = str(tmp_path / "run")
    assert main(["train", "captions", "--data", str(first), *small, "--out", run]) == 0
    command = ["train", "captions", "--out", str(tmp_path / "more"), *small, "--init-from", run]
    assert main([*command, "--data", str(other)]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "trained with another vocabulary: its tokens mean other words" in said
    assert main([*command, "--data", str(first)]) == 0


@pytest.mark.parametrize(
    ("captions", "options", "message"),
    [
        (["a tile"] * 5 + [""], [], "empty"),
        (
            ["a tile"] * 5 + ["a tile of far too many words"],
            ["--length", "4"],
            "the most there can",
        ),
    ],
)
def test_captions_that_cannot_be_trained_on_are_one_line(
    captions, options, message, tmp_path, capsys
):
    own = write(tmp_path / "own", captions)
    command = ["train", "captions", "--data", str(own), "--size", "24", "--patch", "8", *TINY]
    assert main([*command, *options, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]
    assert "5" in said[0]  # which file it is
    assert not (tmp_path / "run").exists()


def test_states_are_compared_in_one_command(tmp_path, capsys):
    out = tmp_path / "table"
    cells = ["state=autoregressive", "state=bits td=2", "state=masked unmask=confidence"]
    command = ["compare", "captions", *WORLD, *TINY, "--seeds", "1", "--out", str(out)]
    assert main([*command, "--cells", *cells, "--metrics", "true,bleu_4,network_evaluations"]) == 0
    told = capsys.readouterr().out
    assert all(state in told for state in ("autoregressive", "bits", "masked"))
    body = (out / "table.md").read_text().splitlines()
    (line,) = [row for row in body if row.startswith("| autoregressive")]
    assert [cell.strip() for cell in line.split("|")[1:4]] == ["autoregressive", "-", "-"]
    (line,) = [row for row in body if row.startswith("| masked")]
    assert [cell.strip() for cell in line.split("|")[1:4]] == ["masked", "0.0", "confidence"]


@pytest.mark.slow
def test_a_picture_that_training_cannot_read_is_one_line(tmp_path, capsys):
    own = write(tmp_path / "own", ["a tile"] * 6)
    (own / "2.png").write_text("none")
    command = ["train", "captions", "--data", str(own), "--size", "24", "--patch", "8", *TINY]
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "2.png" in said[0]
