"""Which guides are meant by what was typed: trials are none, and names may hold commas."""

import json

import pytest
from guided import GUIDE, load_run, train_run, write_files

from noiseloom.cli import main
from noiseloom.found_guides import folders_of, guides_in


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run, and guides chosen among trials of another folder beside them."""
    files = write_files(tmp_path_factory.mktemp("files"))
    folder = train_run(files, tmp_path_factory.mktemp("runs") / "run", "masked", "--steps", "5")
    words = ["guide", str(folder), "--labels", str(files / "labels.csv"), "--columns", "a"]
    words += ["--context", str(files / "context.fasta"), "--method", "none,context", *GUIDE]
    words += ["--configurations", "2", "--steps", "4", "--out", str(folder / "guides" / "sel")]
    assert main([*words, "--trials", str(folder / "guides" / "sel" / "trials")]) == 0
    return folder


def names(run, *paths):
    return [guide.folder.name for guide in guides_in(list(map(str, paths)), load_run(run))]


def test_trials_are_no_guides_of_a_folder_wherever_they_lie(run, capsys, tmp_path):
    assert names(run, run / "guides" / "sel") == names(run, run) == ["context-0", "none-0"]
    words = ["evaluate", str(run), "--guide", "sel", "--target", "maximise", "--scales", "0,1"]
    capsys.readouterr()
    assert main([*words, "--samples", "5", "--out", str(tmp_path / "table"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in told["rows"]] == ["unguided", "context", "none"]
    assert told["seeds"] == [0]


def test_trials_are_found_where_they_alone_are_meant(run):
    trials = run / "guides" / "sel" / "trials"
    assert len(names(run, trials)) == 3
    (only,) = names(run, trials / "none")
    assert only == "only"
    one, _ = sorted((trials / "context").iterdir())
    assert one.name.count(",") == 3
    assert names(run, one) == [one.name]


def test_commas_of_a_name_part_nothing(run, tmp_path, capsys):
    one, other = sorted((run / "guides" / "sel" / "trials" / "context").iterdir())
    for text, right in (
        (str(one), [str(one)]),
        (f"{one},{other}", [str(one), str(other)]),
        (f"sel/none-0,{one}", ["sel/none-0", str(one)]),
        (f"{one},sel/none-0", [str(one), "sel/none-0"]),
        (f"sel/trials/context/{one.name},none", [f"sel/trials/context/{one.name}", "none"]),
        ("missing,none-0", ["missing", "none-0"]),
        ("", [""]),
    ):
        assert folders_of(text, str(run)) == right
    out = tmp_path / "hits.csv"
    words = ["--guide", f"{one},{other}", "--target", "maximise,any", "-n", "5"]
    assert main(["sample", str(run), *words, "--out", str(out)]) == 0
    words = ["--guide", str(one), "--target", "maximise", "--samples", "5", "--scales", "1"]
    assert main(["evaluate", str(run), *words, "--out", str(tmp_path / "table")]) == 0
    assert main(["push", str(run), str(tmp_path / "pushed"), "--guide", str(one)]) == 0
    assert (tmp_path / "pushed" / "guides" / one.name / "guide.yaml").is_file()
    capsys.readouterr()
