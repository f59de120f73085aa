"""What `vitsmith models NAME --cost` shows: the predicted cost of one architecture by engine and precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitsmith.cli.terminal.output import print_line, print_table, say


def costs_of(config: Any, *, batch: int, threads: int | None, machine: Path | None) -> tuple[str, list[dict[str, Any]]]:
    """(the machine, a row for each calibrated engine and precision, the fastest first).

    Raises InputError where nothing is calibrated.
    """
    from vitsmith.cost.predict import cost_of, other_machine, profile_for

    profile = profile_for(machine, threads)
    engines = [one for one in profile.engines if threads in (None, one.threads)]
    if not engines:
        profile.find("any engine", "any precision", threads)
    rows = []
    for one in engines:
        cost = cost_of(config, one, batch=batch)
        rows.append(cost.to_dict() | {"remarks": [*other_machine(profile, one.engine), *cost.remarks]})
    return profile.machine, sorted(rows, key=lambda row: float(row["latency"]))


def print_costs(machine: str, rows: list[dict[str, Any]]) -> None:
    """The rows as a table, and their remarks."""
    batch = rows[0]["batch"]
    columns = ("engine", "precision", "threads", "ms", "90 % interval", "images/s", "memory MiB", "size MiB")
    print_table(
        columns,
        [
            (
                row["engine"],
                row["precision"],
                str(row["threads"]),
                f"{1e3 * row['latency']:.1f}",
                f"{1e3 * row['low']:.1f} to {1e3 * row['high']:.1f}",
                f"{row['images_per_second']:.1f}",
                f"{row['peak_memory'] / 2**20:.0f}",
                f"{row['size'] / 2**20:.1f}",
            )
            for row in rows
        ],
        right=columns[2:],
    )
    what = "of one image" if batch == 1 else f"of a call of {batch} images"
    print_line(f"Predicted for {machine}: median time {what} in the engine, without reading the image.")
    for remark in dict.fromkeys(remark for row in rows for remark in row["remarks"]):
        say(remark)
