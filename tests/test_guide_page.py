"""`guide.html` is text, whatever a property is called."""

import csv
from html import escape
from html.parser import HTMLParser

from guided import GUIDE, train_run, write_files

from noiseloom.cli import main

NAME = '<b>x</b> & "y"'


class Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = set(), ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


def test_a_property_is_called_what_it_is_called(tmp_path, capsys):
    files = write_files(tmp_path)
    with (files / "labels.csv").open(newline="") as file:
        rows = [(row["sequence"], row["a"]) for row in csv.DictReader(file)]
    with (files / "odd.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("sequence", NAME), *rows])
    run = train_run(files, tmp_path / "run", "masked", "--steps", "3")
    words = ["guide", str(run), "--labels", str(files / "odd.csv"), "--method", "none", *GUIDE]
    assert main([*words, "--steps", "3", "--out", str(tmp_path / "guide")]) == 0
    page, found = (tmp_path / "guide" / "guide.html").read_text(), Tags()
    found.feed(page)
    assert "b" not in found.tags
    assert f"<h2>{escape(NAME)}</h2>" in page
    assert found.text.count(NAME) >= 3
    words = ["evaluate", str(run), "--guide", str(tmp_path / "guide"), "--target", "maximise"]
    words += ["--truth", str(files / "odd.csv"), "--scales", "0,1", "--samples", "20"]
    assert main([*words, "--out", str(tmp_path / "table")]) == 0
    found = Tags()
    found.feed((tmp_path / "table" / "guided.html").read_text())
    assert "b" not in found.tags
    capsys.readouterr()
