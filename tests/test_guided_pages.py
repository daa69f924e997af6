"""The file and the rows that are published of guides: what tables say, and differences by seed."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("guided_pages", HERE / "tools" / "guided.py")
TOOL = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TOOL)


def row(select, method, scale, best, mean=(0.1, 0.2)):
    values = {"valid": [1.0, 1.0], "distinct": [9.0, 8.0], "outside": [1.0, 1.0]}
    values |= {"beyond": [0.25, 0.75], "best": list(best), "mean": list(mean)}
    mean = {name: sum(own) / 2 for name, own in values.items() if None not in own}
    return {"select": select, "method": method, "scale": scale, "values": values, "mean": mean}


@pytest.fixture
def folders(tmp_path):
    """Guides of two seeds without a regulariser and with a context, chosen by shifted labels."""
    table, guides = tmp_path / "table", tmp_path / "guides"
    table.mkdir()
    guides.mkdir()
    told = dict.fromkeys(("target", "noiseloom", "git", "torch", "device"), "x")
    told |= {"samples": 9, "seeds": [0, 1], "notes": [], "failed": {}, "command": "evaluate"}
    rows = [row("", "unguided", 0, (0.3, 0.5)), row("shifted", "none", 2, (1.0, 2.0))]
    rows += [row("shifted", "none", 4, (0.9, 0.8)), row("shifted", "context", 2, (1.1240001, 1.9))]
    (table / "table.json").write_text(json.dumps({**told, "rows": rows}))
    figures = {"nll": 1.0, "nll_shifted": 2.0, "spearman": 0.5, "spearman_shifted": 0.25}
    made = {name: [figures, figures] for name in ("none", "context")}
    (guides / "table.json").write_text(json.dumps({"guides": made, "command": "guide"}))
    grids = {"context": {"tried": [{"options": {"tau": 1}}]}, "none": {"tried": []}}
    chosen = {"none": {"options": {}}, "context": {"options": {"tau": 1, "context_size": 16}}}
    choice = {"select": "shifted", "grids": grids, "chosen": chosen}
    (guides / "selection.json").write_text(json.dumps(choice))
    for name in ("none-0", "none-1", "context-0", "context-1"):
        clean = {"properties": {"y": {"spearman": [0.75, 0.1], "nll": [1.5, 9.0]}}}
        (guides / name).mkdir()
        told = {"sets": {"held_out": clean, "shifted": clean}}
        (guides / name / "calibration.json").write_text(json.dumps(told))
    return table, guides


def test_the_best_scale_of_each_method_and_its_differences_by_seed(folders, tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    words = [
        "guided.py",
        *map(str, folders),
        "--out",
        str(out),
        "--note",
        "seconds=7",
        "--before",
        "train",
        "--decimals",
        "2",
    ]
    monkeypatch.setattr(sys, "argv", words)
    TOOL.main()
    found = json.loads(out.read_text())
    assert found["commands"] == ["train", "guide", "evaluate"]
    assert found["seconds"] == "7"
    assert found["rows"][3]["values"]["best"] == [1.124, 1.9]
    assert found["clean"]["shifted"]["context"]["held_out"]["nll"] == [1.5, 1.5]
    rows = [line.split(" | ") for line in TOOL.page(found, 2)]
    # Student's t of two seeds: 12.706 times the difference over two.
    assert rows[1][:2] == ["| context, shifted", "2"]
    assert rows[1][5] == "1.51 ± 4.93"
    assert rows[2][:2] == ["| none, shifted", "2"]
    assert rows[2][7] == "50.0 ± 317.7 |"
    assert rows[4][1:] == ["tau 1, context size 16", "1.00 ± 0.00", "2.00 ± 0.00",
                           "0.50, 0.25", "0.75, 0.75 |"]  # fmt: skip
    assert rows[-3] == ["context, shifted, scale 2: best 0.0120 ± 1.4231"]
    with pytest.raises(FileExistsError):
        TOOL.main()


def test_what_was_published_of_motifs_comes_out_again():
    found = json.loads((HERE / "docs" / "results" / "context-motifs.json").read_text())
    lines = TOOL.page(found, 3)
    assert len(lines) == 1 + 18 + 1 + 18 + 1 + 36
    said = (HERE / "docs" / "results.md").read_text()
    apart = {
        line.split(": best ")[0]: line.split(": best ")[1] for line in lines[39:] if "best" in line
    }
    assert apart["pretrained, in-domain, scale 30"].startswith("0.0177 ± 0.0152")
    assert "0.018 ± 0.015" in said
    pretrained = next(line for line in lines if line.startswith("| pretrained, in-domain | 30"))
    assert pretrained.removeprefix("|").strip(" |") in said
