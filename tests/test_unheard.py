"""Options of codes that change nothing are refused where they are typed, and nowhere else."""

import json

import pytest

from noiseloom.cli import main
from noiseloom.recipes import RECIPES
from noiseloom.run_folder import read_description

TINY = ["--steps=2", "--batch-size=8", "--width=8", "--depth=1", "--no-evaluate"]
TABLE = "a tabular prior, which is counted"
WITHOUT = "a model without codes"

pytestmark = pytest.mark.usefixtures("one_thread")


def told(capsys, *words):
    """The one line of an error."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2, words
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "name", "what"),
    [
        ("--temperature constant --temperature-end 0.1", "temperature_end", "a constant temper"),
        ("--bonus 0 --fade 0.5", "fade", "a bonus of 0"),
        ("--prior tabular --prior-width 64", "prior_width", TABLE),
        ("--prior none --codes none --prior-width 64", "prior_width", "a run without a prior"),
        ("--k 1 --bonus 0.5", "bonus", "codes of one value, k 1"),
        ("--k 1 --hard", "hard", "codes of one value, k 1"),
        ("--k 1 --temperature-start 2", "temperature_start", "codes of one value, k 1"),
        ("--codes none --code-top-p 0.5", "code_top_p", "samples of codes none"),
        *(
            (f"--m 0 {words}", words.split()[0][2:].replace("-", "_"), WITHOUT)
            for words in (
                "--k 4",
                "--code-drop 0.5",
                "--hard",
                "--bonus 0.5",
                "--penalty 0.5",
                "--fade 0.5",
                "--restart 0.5",
                "--prior tabular",
                "--prior-width 64",
                "--temperature constant",
                "--codes marginal",
                "--code-temperature 0.5",
            )
        ),
    ],
)
def test_what_is_typed_must_say_something(words, name, what, tmp_path, capsys):
    line = told(capsys, "train", "disco-mixture", *TINY, *words.split(), "--out", tmp_path / "x")
    assert f"error: {name} changes nothing of {what}" in line
    assert line.endswith(": leave it out")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("option", ["code-depth 3", "encoder-width 64", "encoder-dropout 0.1"])
def test_plain_pictures_have_no_encoder(option, tmp_path, capsys):
    words = ["train", "disco-digits", "--m", "0", *f"--{option}".split(), "--out", tmp_path / "x"]
    name = option.split()[0].replace("-", "_")
    assert f"{name} changes nothing of {WITHOUT}" in told(capsys, *words)


@pytest.mark.parametrize("option", ["m 4", "latent-base bits", "relaxation-end 0.1", "k 4"])
def test_states_without_codes_are_told_nothing_of_them(option, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("so it goes on and on " * 40)
    words = ["train", "text", "--data", tmp_path / "text.txt", "--out", tmp_path / "x"]
    name = option.split()[0].replace("-", "_")
    assert f"{name} changes nothing of {WITHOUT}" in told(capsys, *words, *f"--{option}".split())


def test_what_says_something_is_no_such_option():
    counted = {"prior_samples"}  # by a tabular prior alone
    assert set(RECIPES["disco-mixture"]().unheard) == counted
    assert set(RECIPES["disco-mixture"](bonus=0.0).unheard) == {"fade"} | counted
    assert set(RECIPES["disco-images"](temperature="annealed").unheard) == counted
    assert not RECIPES["disco-mixture"](prior="tabular").unheard.keys() & counted
    assert "encoder_width" not in RECIPES["captions"](state="masked").unheard  # the pictures'
    assert "temperature" not in RECIPES["text"](state="masked").unheard | {"beams": ""}
    assert not RECIPES["text"](state="latent").unheard.keys() & {"k", "fade", "prior_width"}


def test_defaults_files_and_grids_are_passed_over(tmp_path):
    out = tmp_path / "plain"
    words = ["train", "disco-mixture", *TINY, "--m", "0", "--k", "8", "--prior", "autoregressive"]
    assert main([*words, "--out", str(out)]) == 0  # as it is anyway
    (tmp_path / "options.yaml").write_text("recipe: disco-mixture\nk: 3\nprior: tabular\n")
    words = ["train", "--config", str(tmp_path / "options.yaml"), *TINY, "--m", "0"]
    assert main([*words, "--out", str(tmp_path / "filed")]) == 0
    assert read_description(tmp_path / "filed")["options"]["k"] == 3
    words = ["compare", "disco-mixture", *TINY, "--k", "3", "--prior", "tabular", "--samples", "50"]
    words = [word for word in words if word != "--no-evaluate"]
    words += ["--evaluations", "[]", "--grid", "m=0,1", "--seeds", "1"]
    assert main([*words, "--out", str(tmp_path / "grid")]) == 0
    table = json.loads((tmp_path / "grid" / "table.json").read_text())
    assert [cell["options"] for cell in table["cells"]] == [{"m": "0"}, {"m": "1"}]
    assert not table["skipped"]


ROWS = [*TINY[:-1], "--heads=2", "--length=8", "--judged=4", "--samples=4", "--seeds=1", "--json"]


def compared(capsys, tmp_path, *words):
    """What a comparison of states answers, and what it says."""
    path = tmp_path / "mine.txt"
    path.write_text("the cat sat on the mat and the dog sat on the log; " * 40)
    capsys.readouterr()
    command = ["compare", "--data", str(path), "--out", str(tmp_path / "grid"), *ROWS]
    code = main([*command, *map(str, words)])
    shown = capsys.readouterr()
    return (json.loads(shown.out) if code == 0 else {}), shown.err


@pytest.mark.parametrize(
    ("states", "words", "name", "what"),
    [
        ("masked,autoregressive", "--temperature 0.5", "temperature", "state masked"),
        ("masked,autoregressive", "--unmask confidence", "unmask", "state autoregressive"),
        ("uniform,bits", "--sampler heun", "sampler", "state uniform"),
        ("bits,masked", "--code gray", "code", "state masked"),
        ("uniform,latent", "--m 3", "m", "a model without codes"),
    ],
)
def test_options_of_some_states_are_passed_over_by_the_others(
    states, words, name, what, tmp_path, capsys
):
    found, told = compared(capsys, tmp_path, "--state", states, *words.split())
    assert [cell["options"]["state"] for cell in found["cells"]] == states.split(",")
    assert found["skipped"] == []
    note = f"passed over where they change nothing: {name} (of {what})"
    assert told.count(note) == 1
    assert note in found["notes"]
    value = words.split()[1]
    assert value in [str(cell["recipe"][name]) for cell in found["cells"]]


@pytest.mark.parametrize(
    ("states", "words", "told"),
    [
        (
            "masked,uniform",
            "--temperature 0.5",
            "temperature changes nothing of state masked or state uniform",
        ),
        ("uniform,bits", "--unmask confidence", "unmask changes nothing of state uniform or state"),
        ("masked,uniform", "--code gray", "code changes nothing of state masked or state uniform"),
        ("masked,uniform", "--m 3", "m changes nothing of a model without codes: leave it out"),
        ("masked,bits", "--prior tabular", "prior changes nothing of a model without codes"),
    ],
)
def test_options_of_no_state_are_refused_in_a_comparison(states, words, told, tmp_path, capsys):
    _, said = compared(capsys, tmp_path, "--state", states, *words.split())
    line = said.splitlines()[-1]
    assert f"error: {told}" in line
    assert "skipped" not in said
    assert line.endswith(": leave it out")
    assert not (tmp_path / "grid").exists()


def test_an_option_that_a_cell_names_is_its_own(tmp_path, capsys):
    cells = ["--cells", "state=masked temperature=0.5", "state=masked"]
    found, told = compared(capsys, tmp_path, *cells)
    assert "skipped state=masked temperature=0.5: temperature and top_p are of state" in told
    assert len(found["cells"]) == 1
    assert "passed over" not in told


def test_that_there_is_no_prior_is_true_of_a_model_without_codes(tmp_path, capsys):
    found, told = compared(capsys, tmp_path, "--state", "masked,uniform", "--prior", "none")
    assert len(found["cells"]) == 2
    assert "passed over" not in told


def test_a_row_of_another_state_has_no_code(tmp_path, capsys):
    path = tmp_path / "mine.txt"
    path.write_text("abcd" * 100)
    words = ["train", "text", "--data", path, *TINY, "--heads=2", "--length=8", "--out"]
    line = told(capsys, *words, tmp_path / "run", "--state", "masked", "--code", "gray")
    assert line.endswith("code changes nothing of state masked: leave it out")
    line = told(capsys, *words, tmp_path / "run", "--state", "bits", "--features", "8")
    assert line.endswith("features changes nothing of state bits: leave it out")
