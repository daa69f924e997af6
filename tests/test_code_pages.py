"""What the report of a run with codes says of them."""

import json

import pytest

from noiseloom.cli import main
from noiseloom.report import write_report

TINY = ["--steps=2", "--batch-size=8", "--width=8", "--depth=1", "--samples=20", "--prior=tabular"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of points with two latents, and its page."""
    out = tmp_path_factory.mktemp("points") / "run"
    words = ["train", "disco-mixture", "--out", str(out), *TINY, "--m=2", "--k=3"]
    assert main([*words, "--evaluations", "[3]"]) == 0
    return out


@pytest.mark.parametrize(
    ("step", "steps", "least", "told"),
    [
        (300, 300, 0.01, True),
        (300, 300, 0.06, False),  # they say something
        (1200, 5000, 0.01, True),
        (600, 5000, 0.01, False),  # they need not say anything yet
        (140, 140, 0.01, False),  # the running means have not settled
    ],
)
def test_codes_that_say_nothing_are_on_the_page_as_training_warned(
    run, step, steps, least, told, tmp_path
):
    described = (run / "recipe.yaml").read_text()
    assert "steps: 2\n" in described
    (tmp_path / "recipe.yaml").write_text(described.replace("steps: 2\n", f"steps: {steps}\n", 1))
    record = {"step": step, "loss": 1.0, "seconds": 1.0, "least_information": least}
    record |= {"least_informed_perplexity": 2.9}
    before = {**record, "step": step - 50, "least_information": 0.01}
    (tmp_path / "metrics.jsonl").write_text(f"{json.dumps(before)}\n{json.dumps(record)}\n")
    page = write_report(tmp_path).read_text()
    line = f"Codes have collapsed: at step {step} of {steps} a latent tells {least} bits"
    assert (line in page) == told
    assert ("all are used, at random" in page) == told


def test_an_evaluation_says_how_much_codes_tell(run):
    found = json.loads((run / "evaluation.json").read_text())
    assert 0 <= found["information"] <= found["code_bits"]
    assert found["information"] < 0.2  # after two updates
    assert "bits that codes tell of a sample" in (run / "report.html").read_text()
