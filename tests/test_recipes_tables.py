"""Tables from the command line: no refusal is a dead end."""

import random

import pytest
import yaml

from noiseloom.cli import main
from noiseloom.recipes import RECIPES
from noiseloom.run_folder import read_description

TINY = ["--steps", "2", "--batch-size", "8", "--width", "8", "--depth", "1", "--heads", "2"]


@pytest.fixture
def people(tmp_path):
    """600 rows; names of which one comes twice, days, strokes between numbers, and a constant."""
    draw, path = random.Random(0), tmp_path / "people.csv"
    lines = ["who,born,seen,land,age"]
    for i in range(600):
        day = f"19{draw.randint(10, 99)}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
        name = f"person {max(i, 1)}"
        seen = f"{i // 2 % 25 + 1:02}/{i // 2 % 12 + 1:02}/{2000 + i // 2 % 9}"
        lines.append(f"{name},{day},{seen},NO,{i % 50}")
    path.write_text("\n".join(lines) + "\n")
    return path


def train(path, out, *more):
    command = ["train", "table", "--data", str(path), "--out", str(out), "--no-evaluate", *TINY]
    return main([*command, *more])


def last(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_refused_table_has_a_schema_to_edit(people, tmp_path, capsys):
    schema = tmp_path / "s.yaml"
    assert train(people, tmp_path / "run", "--schema", str(schema)) == 2
    said = last(capsys)
    # Line 2 and 3 have the same name, so that line 259 has the 257th.
    assert "line 259, column 'who': more than 256 different texts" in said
    assert "--leave-out who" in said
    assert "--rare 5" in said
    assert "--max-classes" in said
    assert "2 other columns are refused too: 'seen', 'land'" in said
    assert f"{schema} has what columns are taken for now" in said
    assert not (tmp_path / "run").exists()

    found = yaml.safe_load(schema.read_text())
    assert list(found) == ["who", "born", "seen", "land", "age"]
    assert [found[name] for name in ("who", "seen", "land")] == ["leave_out"] * 3
    assert found["born"] == {"kind": "date", "format": "%Y-%m-%d", "bins": 32}
    assert found["age"] == {"kind": "integer", "low": 0, "high": 49}
    assert "# column 'land' has one value in all training rows" in schema.read_text()

    text = schema.read_text().replace("seen: leave_out", "seen: {kind: date, format: '%d/%m/%Y'}")
    schema.write_text(text)
    split = RECIPES["table"](schema=str(schema)).load(str(people))
    assert split.vocabulary.names == ("born", "seen", "age")
    assert train(people, tmp_path / "run", "--schema", str(schema)) == 0


def test_columns_are_left_out_by_an_option(people, tmp_path, capsys):
    assert train(people, tmp_path / "run", "--leave-out", "who,seen") == 2
    said = last(capsys)
    assert "column 'land' has one value in all training rows" in said
    assert "--leave-out land" in said
    assert "--constant leave_out" in said
    assert "--schema FILE.yaml writes" in said
    assert (
        train(people, tmp_path / "run", "--leave-out", "who, seen", "--constant", "leave_out") == 0
    )
    assert "'who' is left out: as asked" in capsys.readouterr().err
    assert train(people, tmp_path / "two", "--leave-out", "wo") == 2
    assert "no column 'wo': did you mean 'who'" in last(capsys)
    header = people.read_text().replace("who,", '"who, so",', 1)
    people.write_text(header)
    split = RECIPES["table"](leave_out='"who, so",seen,land').load(str(people))
    assert split.vocabulary.names == ("born", "age")


def test_a_category_of_held_out_rows_alone_has_a_schema_and_an_option(tmp_path, capsys):
    path, schema = tmp_path / "a.csv", tmp_path / "s.yaml"
    rows = [f"{'xyz'[i % 3]},{i % 7},train\n" for i in range(60)]
    path.write_text("b,a,part\n" + "".join(rows) + "w,1,test\n")
    assert train(path, tmp_path / "run", "--split", "part", "--schema", str(schema)) == 2
    assert "there is no class for 'w': no training row has it; give --rare 1" in last(capsys)
    text = schema.read_text()
    assert yaml.safe_load(text)["b"] == {"kind": "categorical", "values": ["x", "y", "z"]}
    schema.write_text(text.replace("z]", "z], other: true"))
    assert train(path, tmp_path / "run", "--split", "part", "--schema", str(schema)) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--missing", "refuse"], "choose --missing class or --missing drop"),
        (["--rare", "-1"], "--rare must be at least 0"),
        (["--held-out", "2"], "--held-out must be between 0 and 1"),
        (["--split", "b"], "say which value is held out, --held-out-value"),
    ],
)
def test_other_errors_are_in_options(tmp_path, capsys, options, message):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1,x\n2,y\n,z\n" * 20)
    assert train(path, tmp_path / "run", *options) == 2
    assert message in last(capsys)


def test_sequences_are_told_in_options_too(tmp_path, capsys):
    path = tmp_path / "a.txt"
    path.write_text("ACG\nAACC\nGTTA\nTT\nCCC\nGA\n")
    command = ["train", "sequences", "--data", str(path), "--out", str(tmp_path / "run"), *TINY]
    assert main([*command, "--held-out", "2"]) == 2
    assert "--held-out must be between 0 and 1 and --longest at least 1" in last(capsys)
    assert main([*command, "--longest", "2"]) == 2
    assert "--longest is 2: raise it, or leave longer ones out with --longer drop" in last(capsys)


def test_a_run_that_wrote_its_schema_goes_on_by_it(tmp_path, capsys):
    path, out, schema = tmp_path / "a.csv", tmp_path / "run", tmp_path / "s.yaml"
    rows = "".join(f"n{i},{i % 7},{'xyz'[i % 3]},7\n" for i in range(60))
    path.write_text("who,a,b,same\n" + rows)
    options = ["--constant", "leave_out", "--schema", str(schema)]
    assert train(path, out, *options) == 0
    before = read_description(out)["facts"]
    assert set(before["vocabulary"]["left_out"]) == {"who", "same"}
    assert yaml.safe_load(schema.read_text())["who"] == "leave_out"
    capsys.readouterr()
    assert train(path, out, *options, "--resume", "--steps", "4") == 0
    assert "going on after step 2" in capsys.readouterr().err
    assert read_description(out)["facts"] == before
    path.write_text("who,a,b,same\n" + rows.replace("n3,3,", "n3,4,"))
    assert train(path, out, *options, "--resume", "--steps", "6") == 2
    told = last(capsys)
    assert "the data are not those" in told
    assert "held-out samples would become training ones" in told


@pytest.mark.parametrize(
    ("options", "name", "what"),
    [
        (["--held-out-value", "test"], "held_out_value", "a table without --split"),
        (["--split", "part", "--held-out", "0.5"], "held_out", "a table with --split"),
        (["--split", "part", "--split-seed", "7"], "split_seed", "a table with --split"),
    ],
)
def test_what_says_nothing_of_a_split_is_refused(tmp_path, capsys, options, name, what):
    path = tmp_path / "a.csv"
    rows = (f"{i % 7},{'xyz'[i % 3]},{'test' if i % 5 == 0 else 'train'}\n" for i in range(60))
    path.write_text("a,b,part\n" + "".join(rows))
    assert train(path, tmp_path / "run", *options) == 2
    assert last(capsys).endswith(f"error: {name} changes nothing of {what}: leave it out")
    assert not (tmp_path / "run").exists()
    given = ["--split", "part", "--held-out-value", "test", "--held-out", "0.1"]
    assert train(path, tmp_path / "run", *given) == 0


def test_a_column_of_sequences_that_splits_them_leaves_nothing_to_draw(tmp_path, capsys):
    path = tmp_path / "a.csv"
    rows = (
        f"{'ACGT'[i % 4]}{'ACGT'[i // 4]},{'test' if i % 5 == 0 else 'train'}\n" for i in range(16)
    )
    path.write_text("sequence,part\n" + "".join(rows))
    command = ["train", "sequences", "--data", str(path), "--out", str(tmp_path / "run"), *TINY]
    command += ["--no-evaluate", "--split", "part"]
    assert main([*command, "--split-seed", "7"]) == 2
    assert "split_seed changes nothing of sequences with --split: leave it out" in last(capsys)
    assert main(command) == 0
