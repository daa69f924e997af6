"""Imports point one way: the arrows of the design, held by reading every import of the package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import noiseloom

ROOT = Path(noiseloom.__file__).parent

LAWS = {"shapes", "rng", "carry"}
SPACES = LAWS | {"information", "noise", "schedule", "manifolds"}
DIFFUSION = SPACES | {"diffusion", "encodings"}
PLANS = {"plan", "levels", "plan_file", "plan_parts", "plan_picture", "plan_rows"}
MODELS = DIFFUSION | PLANS | {"causality", "class_denoiser", "conditioning", "denoiser"}
MODELS |= {"faults", "preconditioning"}
LOOPS = MODELS | {"sampling", "stochastic", "curvature", "objective", "likelihood"}
LOOPS |= {"bound", "langevin", "unmasking"}
METHODS = LOOPS | {
    "arrival",
    "guidance",
    "latents",
    "context",
    "planning",
    "redesign",
    "replay",
    "rollouts",
    "tokens",
}
METHODS |= {"beam", "next_token", "priors", "sliding", "streaming"}
SIDES = {"nets", "data", "metrics", "training"}
# What a person meets: runs, their folders, reports and the parts of the command line.
FRONT = {
    "actions",
    "arguments",
    "begin",
    "budget",
    "pace",
    "sizes",
    "code_grids",
    "commands",
    "compare",
    "compare_notes",
    "judged_cells",
    "compounds",
    "costs",
    "drawing",
    "figures",
    "fit",
    "fit_prior",
    "gallery",
    "jobs",
    "loading",
    "report",
    "run",
}
FRONT |= {
    "calibrate",
    "evaluate_guides",
    "caption_command",
    "captioned",
    "captioning",
    "fit_guide",
    "found_guides",
    "guide_actions",
    "guide_command",
    "guide_examples",
    "guide_folder",
    "guide_material",
    "guide_report",
    "guide_selection",
    "guide_stages",
    "guide_trainings",
    "guide_verbs",
    "guided_cells",
    "guided_drawing",
    "guided_figures",
    "guided_table",
    "naming",
    "new_prior",
    "sources",
    "steering",
}
FRONT |= {
    "drifts",
    "evaluations",
    "fans",
    "filled",
    "film",
    "points",
    "rings",
    "forecast",
    "meaning",
    "orders",
    "paths",
    "prior_folder",
    "publish",
    "ranking",
    "record",
    "remarks",
    "rows",
    "run_folder",
    "glossary",
    "grid",
    "scores",
    "table",
    "tally",
    "terminal",
    "verbs",
    "videos",
    "writing",
}
EVERYTHING = METHODS | SIDES | FRONT | {"interrupts", "progress", "recipes", "world"}

MAY_IMPORT = {
    "shapes": set(),
    "rng": set(),
    "replay": set(),
    "carry": {"shapes"},
    "faults": {"carry"},
    "schedule": set(),
    "world": set(),
    "interrupts": set(),
    "progress": set(),
    "noise": LAWS | {"schedule"},
    "information": LAWS | {"schedule"},
    "manifolds": LAWS,
    "encodings": LAWS,
    "diffusion": SPACES,
    "preconditioning": DIFFUSION,
    "denoiser": DIFFUSION | {"preconditioning"},
    "class_denoiser": DIFFUSION | {"denoiser"},
    "conditioning": DIFFUSION | {"denoiser"},
    "levels": set(),
    "plan_file": set(),
    "plan_picture": set(),
    "plan_rows": LAWS | {"levels", "plan_file", "plan_picture"},
    "plan": DIFFUSION | {"levels", "plan_rows"},
    "causality": DIFFUSION | PLANS,
    "plan_parts": DIFFUSION | {"plan", "plan_file"},
    "sampling": MODELS,
    "stochastic": MODELS | {"sampling"},
    "langevin": MODELS | {"sampling"},
    "curvature": MODELS | {"sampling"},
    "objective": MODELS,
    "likelihood": MODELS,
    "bound": MODELS,
    "unmasking": MODELS | {"sampling"},
    "next_token": LOOPS | {"priors"},
    "beam": LOOPS | {"next_token"},
    "guidance": LOOPS | {"context"},  # guides, and what is asked of them
    "latents": LOOPS,
    "context": LOOPS,
    "priors": LOOPS | {"nets"},  # which are laws, and not for another network to be
    "rollouts": LOOPS | {"replay"},
    "sliding": LOOPS | {"replay", "rollouts"},
    "streaming": LOOPS | {"rollouts"},
    "tokens": LOOPS,
    "arrival": {"data", "rng"},
    "planning": set(),
    "redesign": LAWS,
    "nets": LAWS,
    "data": LAWS | {"interrupts"},
    "metrics": LAWS | {"data", "progress"},
    "training": LAWS | {"interrupts", "world"},
    "recipes": EVERYTHING,
    **dict.fromkeys(FRONT, EVERYTHING | {"public"}),
    "public": EVERYTHING,
    "cli": EVERYTHING | {"public"},
    "__main__": {"cli"},
    "__init__": {"public"},  # the face; nothing imports it but for the version
}
"""For each part of the package, the other parts it may import."""


def modules(root):
    """Dotted names, relative to the package, of all its modules; a package is its own name."""
    names = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__" and len(parts) > 1:
            parts = parts[:-1]
        names[".".join(parts)] = path
    return names


def imports(path, known):
    """The modules of the package that a file imports, wherever in it; "__init__" is the face."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "noiseloom":
                    found.add(alias.name.partition(".")[2] or "__init__")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrows"
            top, _, name = (node.module or "").partition(".")
            if top == "noiseloom":
                for alias in node.names:
                    if alias.name == "__version__":
                        continue
                    inner = f"{name}.{alias.name}".lstrip(".")
                    found.add(inner if inner in known else name or "__init__")
    return found


def complaints(root):
    known = modules(root)
    graph = {name: imports(path, known) for name, path in known.items()}
    said = []
    for name, targets in graph.items():
        part = name.split(".")[0]
        if part not in MAY_IMPORT:
            said.append(f"{name}: a new part of the package; give it a row in MAY_IMPORT")
            continue
        for target in sorted(targets):
            other = target.split(".")[0]
            if other != part and other not in MAY_IMPORT[part]:
                said.append(f"{name} imports {target}, against the arrows")
    return said + [f"cycle: {' -> '.join(c)}" for c in cycles(graph)]


def cycles(graph):
    """Import cycles between modules."""
    found, done = [], set()

    def visit(name, path):
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for target in sorted(graph.get(name, set()) - {name}):
                visit(target, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    return found


def test_imports_follow_the_arrows():
    said = complaints(ROOT)
    assert not said, "\n".join(said)


def test_the_table_itself_has_no_cycle_below_the_recipes():
    top = {k for k, v in MAY_IMPORT.items() if v >= EVERYTHING} | {"__main__", "__init__"}
    assert not cycles({k: v - top for k, v in MAY_IMPORT.items() if k not in top})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"noise.py": "from noiseloom.sampling import sample"}, "against the arrows"),
        ({"nets/unet.py": "from noiseloom.noise import Cosine"}, "nets.unet imports noise"),
        ({"sampling.py": "def f():\n    import noiseloom.guidance.free"}, "against the arrows"),
        ({"plan.py": "from noiseloom import Cosine"}, "plan imports __init__"),
        ({"objective.py": "from noiseloom import sampling", "sampling.py": ""}, "imports sampling"),
        ({"recipes/a.py": "from noiseloom import cli", "cli.py": ""}, "recipes.a imports cli"),
        ({"novelty.py": ""}, "give it a row in MAY_IMPORT"),
        (
            {
                "guidance/a.py": "from noiseloom.guidance.b import x",
                "guidance/b.py": "from noiseloom.guidance import a",
            },
            "cycle: guidance.a -> guidance.b -> guidance.a",
        ),
    ],
)
def test_this_test_can_fail(tmp_path, files, message):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert any(message in line for line in complaints(tmp_path)), complaints(tmp_path)


@pytest.mark.parametrize("name", ["objective", "recipes", "run", "rollouts", "training"])
def test_a_module_can_be_the_first_that_is_imported(name):
    # Public names are fetched when asked for: a module that asks on its way in goes in a circle.
    done = subprocess.run(
        [sys.executable, "-c", f"import noiseloom.{name}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_no_public_name_is_that_of_a_module():
    # Importing such a module would put it where the name should be.
    modules = {path.stem if path.is_file() else path.name for path in ROOT.iterdir()}
    assert not modules & set(noiseloom.__all__)
