"""A registered model in words, for `models show`."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from shared.clock import MICROSECONDS
from shared.events import at


def described(model: Mapping[str, Any]) -> Table:
    """Two columns: what, and what it is."""
    manifest = model["manifest"]
    table = Table.grid(padding=(0, 2))
    for name, value in [*_identity(model), *_made_of(manifest), *_judging(manifest), *_running(model)]:
        table.add_row(name, value)
    return table


def stays_between(operating: Mapping[str, Any]) -> tuple[float, float]:
    """Where a model's operating sensor may be while it judges; models of earlier releases have no margin."""
    return operating["low"] - operating.get("below", 0.0), operating["high"] + operating.get("above", 0.0)


def _identity(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("model", f"{model['name']} v{model['version']}"),
        ("hash", model["version_hash"]),
        ("alias", ", ".join(model["aliases"]) or "none"),
        ("provisional", "yes: its limit is a stand-in" if model["provisional"] else "no"),
        ("registered", model["registered_at"]),
        ("method", model["manifest"]["method"]),
    ]


def _made_of(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    training, grid = manifest["training"], manifest["grid"]
    excluded = ", ".join(f"{count} {reason}" for reason, count in training["excluded"].items() if count)
    return [
        ("data", f"{at(training['first_us']).isoformat()} to {at(training['last_us']).isoformat()}"),
        (
            "",
            f"{training['rows']} rows, {training['windows']} windows"
            + (f"; left out: {excluded}" if excluded else ""),
        ),
        ("rows' hash", training["sha256"]),
        ("seed", str(manifest["seed"])),
        ("grid", f"a cell each {grid['step_us'] / MICROSECONDS:g} s, {grid['window']} cells a window"),
    ]


def _judging(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    calibration, operating = manifest["calibration"], manifest["operating"]
    rows = [
        (
            "limit",
            f"{manifest['limit']:.6g}, by {calibration['method']} with margin {calibration['margin']:.3g}",
        ),
        ("calibration", f"{calibration['rows']} rows, {calibration['n_eff']:.0f} independent"),
        ("budget", f"{calibration['budget_month']:g} false episodes a month"),
        ("alarms at", f"{calibration['persistence_m']} of {calibration['persistence_n']} windows"),
    ]
    if operating is not None:
        low, high = stays_between(operating)
        rows.append(("judged while", f"{operating['sensor']} is {low:.4g} to {high:.4g}"))
    states = manifest.get("states")  # models of earlier releases have none
    if states is not None:
        levels = ", ".join(f"{low:.4g} to {high:.4g}" for low, high in states["levels"])
        rows.append(("judged while", f"{states['sensor']} is steady at {levels}"))
    rows += [
        ("figures" if not n else "", f"{k} {v:.6g}")
        for n, (k, v) in enumerate(sorted(manifest["metrics"].items()))
    ]
    rows += [("sensors" if not n else "", _sensor(s)) for n, s in enumerate(manifest["sensors"])]
    return rows


def _sensor(sensor: Mapping[str, Any]) -> str:
    silent = "" if sensor["learnt"] else ", never moved: not judged"
    return f"{sensor['name']}: {sensor['low']:.4g} to {sensor['high']:.4g} {sensor['unit']}{silent}"


def _running(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("wanted on", ", ".join(model["promoted_to"]) or "no edge"),
        ("runs on", ", ".join(model["running_on"]) or "no edge"),
    ]
    judged, decided = model.get("judged"), model.get("decided")
    if judged is not None:
        proxy = " by a proxy" if judged["proxy"] else ""
        rows.append(("contest", f"{judged['outcome']}{proxy}: {'; '.join(judged['reasons'])}"))
    if decided is not None:
        rows.append(
            ("decided", f"{decided['triage']}: {decided['reason']}: {decided['action']} ({decided['at']})")
        )
    return rows + [("refused", f"{edge}: {reason}") for edge, reason in model["refused"].items()]
