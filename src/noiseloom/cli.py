"""noiseloom's command line: which verb, which recipe, and one line for every error.

`noiseloom VERB --help` lists the options of a verb, `noiseloom train RECIPE --help` also those of a
recipe. PyTorch is imported once it is needed: `noiseloom --help` and a misspelt verb wait for none.
"""

import contextlib
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from noiseloom import __version__
from noiseloom.actions import ACTIONS
from noiseloom.arguments import UsageError, nearest, value_of
from noiseloom.interrupts import terminable
from noiseloom.verbs import VERBS
from noiseloom.world import world_size

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for an error, 130 for Ctrl-C, 143 for SIGTERM.

    SIGTERM is as Ctrl-C (`interrupts.terminable`), but in one of several processes.
    One of several processes that train together ends after an error, instead of returning.
    Without `argv` the command is the whole program: its processes part after a training.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal may not know the letters
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            if argv is None and world_size() > 1 and words[:1] == ["train"]:
                from noiseloom.training.processes import trains_once

                trains_once()
            # Of several processes torchrun ends all that are left: each is to go at once.
            with terminable() if world_size() == 1 else contextlib.nullcontext():
                _dispatch(words)
    except SystemExit as end:  # after --help
        return int(end.code or 0)
    except KeyboardInterrupt as stop:
        told = f" ({stop})" if str(stop) else ""
        _tell(f"stopped{told}{_how_to_go_on(words)}")
        return _ended(128 + int(getattr(stop, "signal", signal.SIGINT)), stop)
    except Exception as error:
        if not _is_for_users(error):
            raise
        if os.environ.get("NOISELOOM_TRACEBACK"):
            traceback.print_exc()
        _tell(f"error: {_message(error)}")
        return _ended(2, error)
    return 0


def _dispatch(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
    elif words[0] == "--version":
        print(f"noiseloom {__version__}")
    elif words[0] not in VERBS:
        kind = "option" if words[0].startswith("-") else "command"
        known = ("--help", "--version") if kind == "option" else VERBS
        near = nearest(words[0], known) or "; see noiseloom --help"
        raise UsageError(f"unknown {kind} {words[0]!r}{near}")
    else:
        command = shlex.join(["noiseloom", *words])
        ACTIONS[words[0]](words[1:], command)


def _help() -> str:
    lines = [f"noiseloom {__version__}: diffusion models for discrete and structured data", ""]
    lines += [f"  {verb.usage:45s} {verb.summary}" for verb in VERBS.values()]
    lines += [
        "",
        "noiseloom VERB --help lists options; NOISELOOM_TRACEBACK=1 shows where errors are.",
    ]
    return "\n".join(lines)


def _how_to_go_on(words: list[str]) -> str:
    out = value_of(words, "--out")
    if words[0] == "train" and out and (Path(out).expanduser() / "recipe.yaml").is_file():
        words = words if "--resume" in words else [*words, "--resume"]
    elif words[0] == "prior" and out and (Path(out).expanduser() / "recipe.yaml").is_file():
        words = ["prior", out]  # which has all options of what was begun
    elif words[0] in ("prior", "guide"):
        words = [word for word in words if word != "--force"]  # it has begun, and would again
    elif words[0] == "evaluate" and value_of(words, "--guide"):
        pass
    elif words[0] not in ("demo", "compare"):
        return ""
    return f"; go on with: {shlex.join(['noiseloom', *words])}"


def _warn(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if not issubclass(category, (DeprecationWarning, FutureWarning)):  # those are for programmers
        _tell(f"warning: {message}")


def _tell(text: str) -> None:
    print(f"noiseloom: {text}", file=sys.stderr, flush=True)


def _is_for_users(error: Exception) -> bool:
    from safetensors import SafetensorError

    told = (ValueError, TypeError, OSError, ImportError, SafetensorError)
    return isinstance(error, told) or _is_loss_of_peer(error)


def _ended(code: int, error: BaseException) -> int:
    if world_size() > 1:
        from noiseloom.training.processes import leave

        leave(code, error)
    return code


def _is_loss_of_peer(error: Exception) -> bool:
    if world_size() <= 1:
        return False
    from noiseloom.training.processes import is_loss_of_peer

    return is_loss_of_peer(error)


def _message(error: Exception) -> str:
    if _is_loss_of_peer(error):
        return "another process of this training has ended: what it said, or its exit code, is why"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())
