"""The peak of memory is that of one training, not of what the process did before."""

import pytest
import torch
from toy_run import finish, records, toy_loss

from noiseloom.training import memory

pytestmark = pytest.mark.skipif(not memory.forget_peak(), reason="this system forgets no peaks")
SIZE = 300_000_000


def test_a_peak_is_of_what_came_since():
    assert memory.forget_peak()
    before = memory.peak_gigabytes()
    held = torch.ones(SIZE, dtype=torch.uint8)
    assert memory.peak_gigabytes() == pytest.approx(before + SIZE / 1e9, abs=0.03)
    del held
    assert memory.peak_gigabytes() == pytest.approx(before + SIZE / 1e9, abs=0.03)
    assert memory.forget_peak()
    assert memory.peak_gigabytes() == pytest.approx(before, abs=0.03)


def test_small_pieces_that_were_freed_do_not_count():
    memory.forget_peak()
    before = memory.peak_gigabytes()
    pieces = [torch.ones(100_000, dtype=torch.uint8) for _ in range(SIZE // 100_000)]
    assert memory.peak_gigabytes() > before + 0.9 * SIZE / 1e9
    pieces.clear()
    memory.forget_peak()
    assert memory.peak_gigabytes() == pytest.approx(before, abs=0.05)


def test_trainings_have_peaks_of_their_own(tmp_path):
    def hungry(model, batch, rng, rows):
        torch.ones(SIZE, dtype=torch.uint8)
        return toy_loss(model, batch, rng, rows)

    peaks = []
    for name, loss in (("large", hungry), ("small", toy_loss)):
        finish(tmp_path / name, loss=loss)
        kept = {r["step"]: r["peak_gigabytes"] for r in records(tmp_path / name) if len(r) > 5}
        assert list(kept) == [5, 10, 15, 20, 24]  # at checkpoints: a peak only grows
        peaks.append(kept[24])
    assert peaks[0] - peaks[1] == pytest.approx(SIZE / 1e9, abs=0.05)
