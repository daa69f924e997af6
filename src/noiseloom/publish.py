"""Publishing a run, with a model card."""

import json
import shutil
from pathlib import Path

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
    local = target.startswith((".", "/", "~"))
    folder = Path(target).expanduser() if local else run.folder / "hub"
    if folder.exists() and any(folder.iterdir()) and local:
        raise FileExistsError(f"{folder} exists and is not empty: choose another")
    folder.mkdir(parents=True, exist_ok=True)
    for name in PUBLISHED:
        if (run.folder / name).is_file():
            shutil.copyfile(run.folder / name, folder / name)
    write_text(folder / "README.md", _card(run, "noiseloom-model" if local else target))
    if local:
        return str(folder)
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(target, exist_ok=True)
    return str(api.upload_folder(repo_id=target, folder_path=folder))


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
