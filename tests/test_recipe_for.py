"""Which recipe is for a file, by its name and, of a table, by its columns."""

import gzip
import tarfile

import pytest

from noiseloom.cli import main
from noiseloom.recipes.by_file import recipe_for


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("a.txt", "text"),
        ("A.MD", "text"),
        ("a.txt.gz", "text"),
        ("a.fasta", "sequences"),
        ("a.FA.gz", "sequences"),
        ("a.smi", "sequences"),
        ("a.npy", "sequences"),
        ("a.parquet", "table"),
    ],
)
def test_names_say_what_files_are(tmp_path, name, recipe) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")
    assert recipe_for(str(path)) == recipe


@pytest.mark.parametrize(
    ("head", "recipe"),
    [
        ("smiles", "sequences"),
        ("Sequence", "sequences"),
        ("smiles,weight", "table"),
        ("sequences", "table"),
        ("age,city", "table"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_table_of_one_column_may_be_one_of_sequences(tmp_path, head, recipe, packed) -> None:
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    text = f"{head}\n{','.join('C' * len(head.split(',')))}\n".encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    assert recipe_for(str(path)) == recipe


def test_text_lies_in_folders_and_tar_files_too(tmp_path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a.md").write_text("x")
    assert recipe_for(str(tmp_path / "deep")) == "text"
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "deep")
    assert recipe_for(str(tmp_path / "a.tar.gz")) == "text"


def test_folders_and_archives_of_pictures_are_told(tmp_path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a.PNG").touch()
    (tmp_path / "a.zip").touch()
    assert recipe_for(str(tmp_path / "deep")) == "palette"
    assert recipe_for(str(tmp_path / "a.zip")) == "palette"


def test_what_cannot_be_told_is_one_line_that_names_recipes(capsys, tmp_path) -> None:
    (tmp_path / "nothing" / ".hidden").mkdir(parents=True)
    (tmp_path / "nothing" / "a.xyz").touch()
    (tmp_path / "nothing" / ".hidden" / "a.txt").touch()
    (tmp_path / "a.xyz").touch()
    (tmp_path / "a.csv").touch()
    for name, told in (
        ("nothing", "cannot be told: name the recipe, noiseloom compare text|table|sequences"),
        ("a.xyz", "cannot be told: name the recipe, noiseloom compare text|table|sequences"),
        ("none.txt", "there is no file or folder"),
        ("a.csv", "the file is empty"),
    ):
        words = ["--data", str(tmp_path / name), "--state", "bits,masked"]
        assert main(["compare", *words, "--out", str(tmp_path / "grid")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    assert main(["compare", "--state", "bits,masked", "--out", str(tmp_path / "grid")]) == 2
    assert "compare needs a recipe" in capsys.readouterr().err
    assert not (tmp_path / "grid").exists()
