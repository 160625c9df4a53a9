"""`clmsda response`: did the tumors respond? Baseline and follow-ups in, RECIST 1.1 and change in volume out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clmsda.cli.options import STDOUT, check_suffix, new_table, show, write_json
from clmsda.files import OutputError, replacing_all
from clmsda.version import software

if TYPE_CHECKING:
    from clmsda.response import Report
    from clmsda.response.volumes import VolumeChange

PICTURES = (".png", ".pdf", ".svg")


class Match(StrEnum):
    """How lesions of two scans are matched."""

    TRACKING = "tracking"
    LABEL = "label"


Labels = list[str] | None


def response(
    baseline: Annotated[
        Path, typer.Argument(metavar="BASELINE", help="The first scan: JSON of segment or measure, or DICOM SR.")
    ],
    follow_ups: Annotated[list[Path], typer.Argument(metavar="FOLLOWUP", help="Later scans, in order.")],
    match: Annotated[
        Match | None, typer.Option(help="Match lesions by tracking UID or by label; else UIDs where they are shared.")
    ] = None,
    same: Annotated[
        Labels,
        typer.Option(metavar="[N:]NEW=OLD", help="Label NEW of follow-up N is lesion OLD; 2+4=2 split, 2=2+3 merged."),
    ] = None,
    organ: Annotated[
        Labels, typer.Option(metavar="LABEL=NAME", help="A lesion's organ; node for lymph nodes. Else lung.")
    ] = None,
    target: Annotated[Labels, typer.Option(metavar="LABEL", help="Choose target lesions; else by size.")] = None,
    gone: Annotated[Labels, typer.Option(metavar="[N:]LABEL", help="This lesion has disappeared (0 mm).")] = None,
    too_small: Annotated[
        Labels, typer.Option(metavar="[N:]LABEL", help="This lesion is there, but too small to measure (5 mm).")
    ] = None,
    progression: Annotated[
        Labels, typer.Option(metavar="[N:]LABEL", help="Unequivocal progression of a non-target lesion.")
    ] = None,
    new_lesion: Annotated[
        Labels, typer.Option(metavar="[N:]TEXT", help="A new lesion that no file holds, in words.")
    ] = None,
    not_new: Annotated[
        Labels, typer.Option(metavar="[N:]LABEL", help="This lesion of follow-up N was there before, or is in doubt.")
    ] = None,
    date: Annotated[
        Labels, typer.Option(metavar="N:YYYY-MM-DD", help="When scan N was (0: baseline), where its file tells none.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the response as JSON; - prints it.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="PICTURE", help="Waterfall (one follow-up) or spider plot (.png, .svg, .pdf)."),
    ] = None,
) -> None:
    """Compare a baseline with one or more follow-ups: RECIST 1.1, change in volume, doubling time.

    A lesion that a follow-up does not hold is not measured; say --gone where it has disappeared.
    N is the follow-up's number, from 1; it may be left out where there is one. All options repeat.
    """
    from clmsda.response import Statements, read_time_points, respond
    from clmsda.response import statements as says

    count = len(follow_ups)
    statements = Statements(
        organs=says.parse_organs(organ or (), count),
        targets=says.parse_labels(target or (), "--target"),
        links=says.parse_links(same or (), count),
        gone=says.parse_places(gone or (), "--gone", count),
        too_small=says.parse_places(too_small or (), "--too-small", count),
        progressing=says.parse_places(progression or (), "--progression", count),
        new=says.parse_new(new_lesion or (), count),
        not_new=says.parse_places(not_new or (), "--not-new", count),
    )
    outputs = _named(json, plot, [baseline, *follow_ups])
    with replacing_all(outputs) as paths:  # entered first: a bad folder is refused before the work
        points = read_time_points([baseline, *follow_ups], says.parse_dates(date or (), count + 1))
        report = respond(points, statements, by=match.value if match else None)
        _write(report, **paths)
    if json == STDOUT:
        write_json(_content(report), STDOUT)
    else:
        _show(report)


def _named(json: Path | None, plot: Path | None, inputs: list[Path]) -> dict[str, Path]:
    """The files to write, by kind, with names that say what they are."""
    given = {"json": None if json == STDOUT else json, "plot": plot}
    outputs = {kind: path for kind, path in given.items() if path is not None}
    for kind, path in outputs.items():
        check_suffix(path, {"json": (".json",), "plot": PICTURES}[kind])
        if path.exists() and any(one.exists() and path.samefile(one) for one in inputs):
            raise OutputError(f"cannot write {path}: it is one of the time points; choose another name")
    return outputs


def _write(report: Report, json: Path | None = None, plot: Path | None = None) -> None:
    if plot is not None:
        from clmsda.response.plots import draw_response

        draw_response(report, plot)
    if json is not None:
        write_json(_content(report), json)


def _content(report: Report) -> dict[str, Any]:

    return {"software": software(), **report.to_json()}


def _show(report: Report) -> None:
    """The tables of diameters and volumes, why each response is what it is, and what to beware of."""
    from clmsda.response.report import NOTICE, SOURCES

    headings = [str(point) for point in report.points]
    sums = [_sum_row(report)] if report.targets.labels else []
    diameters = [*_diameter_rows(report), *sums, _response_row(report)]
    show(new_table(["lesion", "role", *headings], diameters, "Diameters, mm: RECIST 1.1"))
    volumes = [*_volume_rows(report), *_total_rows(report)]
    show(new_table(["lesion", *headings], volumes, "Volumes, ml (~ within repeatability)"))
    for one in report.recist:
        reasons = "; ".join(one.reasons) or "all non-target lesions are gone or still there"
        typer.echo(f"{report.points[one.follow_up].name}: {one.overall.value}: {reasons}")
    typer.echo(f"lesions matched by {report.matching.by}")
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
    for what, source in SOURCES.items():
        typer.echo(f"{what.replace('_', ' ')}: {source}")
    typer.echo(NOTICE)


def _diameter_rows(report: Report) -> list[list[str]]:
    from clmsda.response.report import diameter_change, within_diameter_limit

    rows = []
    for course in report.courses:
        cells = []
        for number, (sighting, diameter_mm) in enumerate(zip(course.sightings, course.diameters_mm, strict=True)):
            change = diameter_change(course, number) if number else None
            mark = "~" if within_diameter_limit(change) else ""
            size = "-" if diameter_mm is None else f"{diameter_mm:.1f}"
            more = f" ({mark}{change:+.0%})" if change is not None else ""
            state = "" if sighting.state == "measured" else f" {sighting.state}"
            cells.append(f"{size}{more}{state}" if diameter_mm is not None else sighting.state.value)
        role = "target" if course.label in report.targets.labels else report.targets.reasons[course.label]
        rows.append([f"{course.label} ({course.organ})", role, *cells])
    return rows


def _sum_row(report: Report) -> list[str]:
    from clmsda.response.report import within_diameter_limit

    cells = [f"{report.recist[0].baseline_mm:.1f}"]
    for one in report.recist:
        mark = "~" if within_diameter_limit(one.from_baseline) else ""
        change = "incomplete" if one.from_baseline is None else f"{mark}{one.from_baseline:+.1%}"
        cells.append(f"{one.sum_mm:.1f} ({change})")
    return ["sum of targets", "", *cells]


def _response_row(report: Report) -> list[str]:
    cells = []
    for one in report.recist:
        parts = [f"target {one.target.value}"] if one.target else []
        parts += [f"non-target {one.non_target.value}"] if one.non_target else []
        parts += [f"{sum(new.counts for new in one.new)} new"] if any(new.counts for new in one.new) else []
        cells.append(f"{one.overall.value} ({', '.join(parts)})")
    return ["response", "", "", *cells]


def _volume_rows(report: Report) -> list[list[str]]:
    rows = []
    for course in report.courses:
        first = course.sightings[0]
        cells = ["-" if first.volume_ml is None else f"{first.volume_ml:.2f}"]
        for number in range(1, len(report.points)):
            change = report.change_of(course.label, number)
            state = course.sightings[number].state
            cells.append(state.value if change.volume_ml is None else _volume_cell(change))
        rows.append([f"{course.label} ({course.organ})", *cells])
    return rows


def _total_rows(report: Report) -> list[list[str]]:
    first_ml = report.volumes[0].total.baseline_ml
    total = ["-" if first_ml is None else f"{first_ml:.2f}"]
    total += [
        _volume_cell(one.total) if one.total.volume_ml is not None else "not all measured" for one in report.volumes
    ]
    responses = [one.response.value + " (new lesion)" * one.is_new for one in report.volumes]
    return [["all lesions", *total], ["response, extrapolated", "", *responses]]


def _volume_cell(change: VolumeChange) -> str:
    """Volume, change from the baseline, and, where it is more than repeatability, how fast since the scan before."""
    cell = f"{change.volume_ml:.2f}"
    if change.change is not None:
        cell += f" ({'~' if change.is_repeatable else ''}{change.change:+.0%})"
    days = change.growth.doubling_days if change.growth and not change.growth.is_repeatable else None
    return cell if days is None else f"{cell}, {'doubles' if days > 0 else 'halves'} in {abs(days):.0f} d"
