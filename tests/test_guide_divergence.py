"""A guide's training whose gradients are no numbers: what is said, and what is left."""

from dataclasses import replace

import pytest
from guided import load_run, train_run, write_files

from noiseloom.fit_guide import fit_guide
from noiseloom.guide_material import Sources, read_material
from noiseloom.recipes import GuideTraining

TINY = GuideTraining(steps=8, batch_size=16, width=8, depth=1, context_size=6)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:the gradient's norm is"),
    pytest.mark.filterwarnings("ignore:the loss is"),
]


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    """Train a guide of some method, with options that differ from TINY's."""
    files = write_files(tmp_path_factory.mktemp("files"))
    folder = train_run(files, tmp_path_factory.mktemp("runs") / "run", "masked", "--steps", "3")
    run = load_run(folder)
    paths = (str(files / name) for name in ("labels.csv", "context.fasta"))
    sources = Sources(*paths, columns=("a",))
    material = read_material(run, sources, TINY.held_out)

    def made(out, **changes):
        return fit_guide(run, replace(TINY, **changes), out, material, sources)

    return made


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sigma": 0.0, "tau": 1e-30}, r"of context, raise tau \(1e-30\) or lower weight \(1\)"),
        (
            {"method": "parameter-prior", "prior_variance": 1e-38},
            r"of parameter-prior, raise prior_variance \(1e-38\)",
        ),
        ({"method": "coral", "weight": 1e38}, r"of coral, lower weight \(1e\+38\)"),
    ],
)
def test_a_term_that_is_too_large_is_named(fit, tmp_path, changes, told):
    with pytest.raises(ValueError, match=rf"is (inf|nan) at step .* lower learning_rate.*; {told}"):
        fit(tmp_path / "guide", **changes)
    assert not list(tmp_path.iterdir())


def test_a_method_without_a_term_has_no_such_remedy(fit, tmp_path):
    with pytest.raises(ValueError, match="lower learning_rate") as error:
        fit(tmp_path / "guide", method="none", learning_rate=1e30, steps=30)
    assert "; of none" not in str(error.value)


def test_a_guide_none_of_whose_updates_was_made_is_none(fit, tmp_path):
    with pytest.raises(ValueError, match=r"none of 2 updates .*; of context, raise tau \(1e-30\)"):
        fit(tmp_path / "guide", sigma=0.0, tau=1e-30, steps=2)
    assert not list(tmp_path.iterdir())
    assert fit(tmp_path / "guide", steps=2).finished  # another one is not kept from its place
