"""Publishing a run, with a model card."""

import json
import shutil
import tempfile
from pathlib import Path

import yaml

from noiseloom.run import Run
from noiseloom.run_folder import write_text

__all__ = ["push"]

PUBLISHED = ("recipe.yaml", "ema.safetensors", "evaluation.json", "report.html")


def push(run: Run, target: str) -> str:
    """Publish a run, with a model card, to the Hugging Face Hub or to a local folder.

    Args:
        run: what to publish.
        target: "owner/name" on the Hub, or a path that starts with ".", "/" or "~".

    Returns:
        Where it is.
    """
    if target.startswith((".", "/", "~")):
        folder = Path(target).expanduser()
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} exists and is not empty: choose another")
        _fill(folder, run, "noiseloom-model")
        return str(folder)
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(target, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        _fill(Path(name), run, target)
        return str(api.upload_folder(repo_id=target, folder_path=name))


def _fill(folder: Path, run: Run, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in PUBLISHED:
        if (run.folder / file).is_file():
            shutil.copyfile(run.folder / file, folder / file)
    # Where the data lay is nobody's business, and no path of the reader's.
    described = yaml.safe_load((folder / "recipe.yaml").read_text())
    text = yaml.safe_dump(described | {"data": None, "init_from": None}, sort_keys=False)
    for path in filter(None, (described.get("data"), described.get("init_from"))):
        text = text.replace(path, Path(path).name)
    write_text(folder / "recipe.yaml", text)
    write_text(folder / "README.md", _card(run, name))


def _card(run: Run, name: str) -> str:
    path = run.folder / "evaluation.json"
    metrics = json.loads(path.read_text()) if path.is_file() else {}
    rows = "".join(f"| {key} | {value:.4g} |\n" for key, value in metrics.items())
    table = f"\n| metric | value |\n| --- | --- |\n{rows}" if rows else ""
    return f"""---
library_name: noiseloom
tags: [diffusion, {run.recipe.name}]
---
# {name.split("/")[-1]}

{run.recipe.summary}, trained with noiseloom for {run.recipe.steps} steps (seed {run.recipe.seed}).
{table}
```python
import noiseloom, torch

run = noiseloom.load("{name}")
pixels = run.pixels(torch.zeros(16, dtype=torch.int64))
```
"""
