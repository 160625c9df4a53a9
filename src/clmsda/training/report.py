"""What a training run says while it runs: a progress bar, metrics.jsonl, TensorBoard events."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from clmsda.files import replacing
from clmsda.training.checkpoint import Progress
from clmsda.training.config import TrainingConfig

if TYPE_CHECKING:
    from rich import progress


class Report:
    """Shows and records a run; with `enabled` false (ranks other than 0) it does neither.

    bar: the progress bars of a larger whole, to show this run's below.
    """

    def __init__(self, out: Path, config: TrainingConfig, bar: progress.Progress | None, *, enabled: bool) -> None:
        self.out, self.config, self.enabled = out, config, enabled
        self.shared = bar is not None
        self.bar = bar or _bar(enabled)
        self.console = self.bar.console
        self.task = self.bar.add_task(config.name, total=None, visible=enabled)
        self.events = _events(out) if enabled else None

    def __enter__(self) -> Report:
        if not self.shared:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.shared:
            self.bar.remove_task(self.task)
        else:
            self.bar.stop()
        if self.events:
            self.events.close()

    def start_epoch(self, epoch: int, step: int, steps: int) -> None:
        # The bar counts the steps of the whole run, so that its time left is the run's.
        total = steps * self.config.optimization.epochs
        self.bar.update(self.task, total=total, completed=steps * epoch + step)

    def advance(self, progress: Progress) -> None:
        loss = progress.sums["total"] / progress.step
        best = f", best F1 {progress.best_f1:.3f}" if progress.best_epoch >= 0 else ""
        text = (
            f"{self.config.name}: epoch {progress.epoch + 1}/{self.config.optimization.epochs}, loss {loss:.3f}{best}"
        )
        self.bar.update(self.task, description=text, advance=1)

    def finish_epoch(self, progress: Progress, rate: float, means: dict[str, float], scores: dict[str, float]) -> None:
        """Add a line to metrics.jsonl (once per epoch: a resumed run does not repeat finished ones)."""
        if not self.enabled:
            return
        row: dict[str, Any] = {"epoch": progress.epoch, "seconds": round(progress.seconds, 1), "learning_rate": rate}
        row |= {name: round(value, 6) for name, value in (means | scores).items()}
        path = self.out / "metrics.jsonl"
        kept = [line for line in _lines(path) if json.loads(line)["epoch"] < progress.epoch]
        with replacing(path) as temporary:
            temporary.write_text("\n".join([*kept, json.dumps(row)]) + "\n", encoding="utf8")
        shown = ", ".join(f"{name} {value:.4f}" for name, value in (means | scores).items())
        self.console.print(f"epoch {progress.epoch + 1}: {shown} ({progress.seconds:.0f} s)", highlight=False)
        if self.events:
            for name, value in (means | scores).items():
                self.events.add_scalar(name, value, progress.epoch)
            self.events.flush()


def _bar(enabled: bool) -> progress.Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Bars(*columns, console=Console(stderr=True), disable=not enabled)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf8").splitlines() if path.is_file() else []


def _events(out: Path) -> Any:
    """A TensorBoard writer, or None where tensorboard is not installed (it is optional)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"))
