"""How runs were trained: loss and validation F1, epoch by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clmsda.studies.report.figures.style import color, legend, marker, new_figure, panels, whole_numbers
from clmsda.studies.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def training(results: Results) -> Figure:
    """A thin line for every run; a marker where the kept network was."""
    figure = new_figure(2.7)
    loss, f1 = panels(figure, 2)
    named = set()
    for record in results.records:
        run = record.run
        if not record.epochs:
            continue
        index = results.place(run.row.name)
        style: dict[str, Any] = {"color": color(index), "linewidth": 0.8, "alpha": 0.85}
        epochs = [row["epoch"] + 1 for row in record.epochs]
        loss.plot(epochs, [row.get("total", float("nan")) for row in record.epochs], **style)
        scores = [100 * row.get("f1", float("nan")) for row in record.epochs]
        if run.row.name not in named:
            f1.plot([], [], marker=marker(index), label=run.row.name, **style)
        named.add(run.row.name)
        f1.plot(epochs, scores, **style)
        best = max(range(len(scores)), key=lambda n: scores[n])
        f1.plot(epochs[best], scores[best], marker(index), color=color(index), markersize=4.5, markeredgecolor="white",
                markeredgewidth=0.5, linestyle="none")  # fmt: skip
    loss.set_ylabel("training loss")
    loss.set_ylim(bottom=0)
    f1.set_ylabel("validation F1 (%)")
    for panel in (loss, f1):
        panel.set_xlabel("epoch")
        whole_numbers(panel.xaxis)
    legend(figure, f1)
    return figure
