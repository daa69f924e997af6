"""Metrics that cannot tell good from bad are named, wherever figures are shown."""

import json

from noiseloom import Rng
from noiseloom.cli import main
from noiseloom.compare_notes import few_updates, of_metrics
from noiseloom.metrics import discrete_report
from noiseloom.recipes import RECIPES, BitsDigits
from noiseloom.remarks import by_heart, remarks, too_few, unsure
from noiseloom.table import Cell

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
    apart = {"classifier": 0.5, "classifier_held_out": 0.49, "classifier_noised": 0.48}
    assert too_few(PAIR | apart, ["classifier"]) == f"classifier {TOLD}"
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
    assert by_heart(held) == by_heart({"bits_per_token_seen": 0.1}) == ""
    assert by_heart(held | {"bits_per_token_seen": 1.6}) == ""
    told = by_heart(held | {"bits_per_token_seen": 1.59})
    assert told.startswith("of training rows a token takes 1.59 bits, of held-out ones 2: rows")
    assert "held-out ones are unlike the others" in told  # as of a later time
    assert by_heart(held | {"bits_per_token_seen": 1.59, "bits_per_token_se": 0.1}) == told
    assert by_heart(held | {"bits_per_token_seen": 1.59, "bits_per_token_se": 0.14}) == ""
    both = {"bits_per_token_se": 0.1, "bits_per_token_seen_se": 0.1}
    assert by_heart(held | {"bits_per_token_seen": 1.59} | both) == ""


def cell(error, spread, n=3):
    mean = {"bits_per_token": 2.0} | ({} if error is None else {"bits_per_token_se": error})
    return {"n": n, "mean": mean, "deviation": {} if n == 1 else {"bits_per_token": spread}}


def test_bits_that_seeds_agree_on_better_than_a_run_knows_them_are_told():
    told = unsure([cell(0.03, 0.01), cell(0.04, 0.02), cell(0.05, 0.005)])
    # Root mean squares of the errors, and of the deviations.
    assert told.startswith("bits_per_token of a run is known to ± 0.041, and seeds agree to ± 0.01")
    assert unsure([cell(0.03, 0.016)] * 3) == ""  # less than twice
    assert unsure([cell(0.03, 0.014)] * 3) != ""
    assert unsure([cell(0.03, 0.001)] * 2) == ""  # four seeds beyond the first ones may be chance
    assert unsure([cell(0.03, 0.001, n=2)] * 6) != ""
    assert unsure([cell(0.03, 0.0, n=1)] * 9) == ""  # of one seed it is what is shown
    assert unsure([cell(None, 0.001)] * 3) == ""


def test_notes_of_a_comparison_name_what_they_are_of():
    many, few = RECIPES["text"](steps=300), RECIPES["text"](state="bits", steps=299)
    cells = [Cell({"state": "masked"}, many), Cell({"state": "bits"}, few)]
    told = "few updates for a learning rate that rises over 100 of them: state=bits (299); a larger"
    assert few_updates(cells)[0].startswith(told)
    assert few_updates(cells[:1]) == []
    cells[0].values.extend([{"bits_per_token": 2.0, "unique": 1.0}, {"bits_per_token": 2.0}])
    cells[1].values.extend([{"bits_per_token": 2.0, "bits_per_token_seen": 2.0}] * 2)
    told = of_metrics(cells, ["bits_per_token", "unique"])
    few = "not of all seeds, since samples of some have no such figure: unique of state=masked "
    assert f"{few}(1 of 2)" in told
    assert any("figures were kept by an earlier version" in text for text in told)
    assert cells[1].recipe.caveat in told
    cells[0].values.reverse()  # a metric that the first seed lacks is one, too
    assert any("unique of state=masked (1 of 2)" in text for text in of_metrics(cells, ["*"]))
    # Of what is not shown nothing is said.
    assert of_metrics(cells, ["unique"]) == [text for text in told if text.startswith("not of")]
    assert all(text and told.count(text) == 1 for text in told)


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
