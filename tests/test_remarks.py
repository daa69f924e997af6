"""Metrics that cannot tell good from bad are named, wherever figures are shown."""

import json

from noiseloom import Rng
from noiseloom.cli import main
from noiseloom.metrics import discrete_report
from noiseloom.recipes import RECIPES, BitsDigits
from noiseloom.remarks import by_heart, remarks, too_few, unsure

PAIR = {"n": 64.0, "pair": 0.1, "pair_held_out": 0.3, "pair_noised": 0.25}
TOLD = (
    "cannot tell good from bad: real rows with noise are better than held-out ones; 64 rows are "
    "too few, or held-out ones are unlike the others"
)


def test_anchors_the_wrong_way_round_are_told_by_the_direction_of_the_metric():
    good = {"words": 0.5, "words_held_out": 0.9, "words_noised": 0.8}
    alike = {"invalid": 0.0, "invalid_held_out": 0.0, "invalid_noised": 0.0}
    either = {"closest": 0.5, "closest_held_out": 0.2, "closest_noised": 0.1}
    assert too_few({"n": 64.0, **good, **alike, **either}) == ""
    bad = {"words": 0.5, "words_held_out": 0.8, "words_noised": 0.9}
    assert too_few(PAIR | good | alike | either) == f"pair {TOLD}"
    assert too_few(PAIR | bad) == f"pair, words {TOLD}"
    assert too_few(PAIR | bad, ["words", "classifier"]) == f"words {TOLD}"
    assert remarks(RECIPES["table"](), PAIR) == [f"pair {TOLD}"]
    assert remarks(BitsDigits(), PAIR) == [text for text in [BitsDigits().caveat] if text]


def test_held_out_rows_of_another_kind_are_a_cause_that_is_named_too():
    """Of 8,000 rows none are too few: held-out ones lie in the lower third of the others' range."""
    keys = Rng(0)
    train = keys.fold("train").integers(10, (20_000, 4))
    held_out = keys.fold("held out").integers(10, (8_000, 4)) // 3
    found = discrete_report("table", train[:8_000], train, held_out, keys, sizes=(10,) * 4)
    assert found["marginal_noised"] < found["marginal_held_out"]
    assert "8,000 rows are too few, or held-out ones are unlike the others" in too_few(found)


def test_training_rows_that_cost_a_fifth_less_were_learnt_unless_it_is_chance():
    held = {"bits_per_token": 2.0}
    assert by_heart(held) == by_heart({"bits_per_token_train": 0.1}) == ""
    assert by_heart(held | {"bits_per_token_train": 1.6}) == ""
    told = by_heart(held | {"bits_per_token_train": 1.59})
    assert "of training rows a token takes 1.59 bits, of held-out ones 2;" in told
    assert by_heart(held | {"bits_per_token_train": 1.59, "bits_per_token_se": 0.1}) == told
    assert by_heart(held | {"bits_per_token_train": 1.59, "bits_per_token_se": 0.14}) == ""


def test_a_metric_that_a_run_knows_less_well_than_seeds_agree_is_told_once():
    means = [{"bits_se": 0.01, "words_se": 0.3}, {"bits_se": 0.05, "words_se": 0.1}]
    spreads = [{"bits": 0.005, "words": 0.2}, {"bits": 0.02, "words": 0.2}]
    told = list(unsure(means, spreads, ["bits", "words", "valid"]))
    assert len(told) == 1
    assert told[0].startswith("bits of a run is known to ± 0.05 (which rows are held out")
    assert list(unsure(means, [{}, {}], ["bits"])) == []  # of one seed it is what is shown


def test_a_table_of_few_rows_says_so_on_the_terminal_in_files_and_on_its_page(tmp_path, capsys):
    """Noise of a fifth is nothing to columns that are noise: which anchor is better is chance."""
    path, out = tmp_path / "a.csv", tmp_path / "grid"
    path.write_text("a,b\n" + "".join(f"{i * i % 7},{i * i % 5}\n" for i in range(60)))
    words = ["compare", "--data", str(path), "--state", "masked,uniform", "--out", str(out)]
    words += ["--steps", "2", "--batch-size", "8", "--width", "8", "--depth", "1", "--heads", "2"]
    words += ["--sampling-steps", "2", "--samples", "24", "--judged", "8", "--levels", "1"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    table = json.loads((out / "table.json").read_text())
    for cell in table["cells"]:
        mean = cell["mean"]
        names = [
            name
            for name in ("marginal", "pair", "dependence", "classifier", "invalid")
            if mean.get(f"{name}_noised", 1.0) < mean.get(f"{name}_held_out", 0.0)
        ]
        told = f"{', '.join(names)} cannot tell good from bad: real rows with noise are better"
        assert names
        assert told in shown
        assert told in " ".join(table["notes"])
        assert told in (out / "table.md").read_text()
        assert f"; {mean['n']:g} rows are too few, or held-out ones are unlike" in shown
    run = next((out / "runs").iterdir())
    assert main(["evaluate", str(run)]) == 0
    assert " cannot tell good from bad: real rows" in capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    assert " cannot tell good from bad: real rows" in (run / "report.html").read_text()
