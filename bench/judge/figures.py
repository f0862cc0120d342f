"""The figures of a method on a set, by name, from its answers for every run. Shares are shares, not per cent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.judge.methods import Scored
from cloud.training.datasets.tep import HARD
from cloud.training.limits import Budget
from cloud.training.measures import events, rows
from shared.clock import MICROSECONDS

MATCHED_FAR: Final = 0.01
DAY_US: Final = 86_400 * MICROSECONDS
MULTIPLIERS: Final = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
BUDGET: Final = Budget()


@dataclass(frozen=True, eq=False)
class Answers:
    """A method's answers: for the runs that are judged, and for those without a fault."""

    runs: Sequence[Scored]
    healthy: Sequence[Scored] = ()


def f1_of(runs: Sequence[Scored]) -> float:
    """Pooled, row by row."""
    return counts(runs).f1


def counts(runs: Sequence[Scored]) -> rows.Counts:
    """Pooled, row by row."""
    return rows.pooled(rows.count(each.run.anomaly, each.alarm) for each in runs)


def pr_auc_of(runs: Sequence[Scored]) -> float:
    """The mean over runs."""
    return float(np.mean([rows.average_precision(each.run.anomaly, each.ratio) for each in runs]))


def common(answers: Answers) -> dict[str, float]:
    """What every set has."""
    runs = answers.runs
    whole = counts(runs)
    found = [events.judge(each.run.anomaly, each.alarm, each.run.test_us) for each in runs]
    total = sum(each.events for each in found)
    delays = [delay for each in found for delay in each.delays_us]
    false = sum(events.false_episodes(each.run.anomaly, each.alarm, m=BUDGET.m, n=BUDGET.n) for each in runs)
    hours = sum(events.normal_hours(each.run.anomaly, each.run.test_us) for each in runs)
    scored = np.concatenate([np.isfinite(each.ratio) for each in runs])
    return {
        "f1": whole.f1,
        "far": whole.far,
        "mar": whole.mar,
        "pr_auc": pr_auc_of(runs),
        "hit": sum(each.hit for each in found) / total,
        "onset": sum(each.onset for each in found) / total,
        "delay_s": float(np.median(delays)) / MICROSECONDS if delays else float("nan"),
        "false_hour": false / hours,
        "worst_f1": min(f1_of([each]) for each in runs),
        "far_max": max(counts([each]).far for each in runs),
        "scored": float(scored.mean()),
    }


def smd(answers: Answers) -> dict[str, float]:
    """How often the three leading sensors hold a guilty one."""
    series = {f"pr_auc {each.run.name}": pr_auc_of([each]) for each in answers.runs}
    blamed = [
        events.blame(each.run.blamed, each.ratio, each.contributions, each.alarm)
        for each in answers.runs
        if each.contributions is not None
    ]
    if not any(each.events for each in blamed):
        return series
    total = sum(each.events for each in blamed)
    return {
        "hit@3": sum(each.right for each in blamed) / total,
        "hit@3 by chance": sum(each.chance for each in blamed) / total,
        **series,
    }


def tep(answers: Answers) -> dict[str, float]:
    """At the limit: false alarms on all normal rows. For the ranking alone: detection where 1 % of these would alarm."""
    normal = np.concatenate([each.ratio[~each.run.anomaly] for each in (*answers.runs, *answers.healthy)])
    level = float(np.nanquantile(normal, 1 - MATCHED_FAR))
    easy = [each for each in answers.runs if each.run.name not in HARD]
    return {
        "detection at 1 % FAR": float(
            np.mean([np.mean(each.ratio[each.run.anomaly] > level) for each in easy])
        ),
        "far_all": rows.pooled(
            rows.count(each.run.anomaly, each.alarm) for each in (*answers.runs, *answers.healthy)
        ).far,
        "f1 without 3, 9": counts(easy).f1,
        "far without 3, 9": counts(easy).far,
        "mar without 3, 9": counts(easy).mar,
        "pr_auc without 3, 9": pr_auc_of(easy),
        **{
            f"detection {each.run.name.removesuffix('_te')}": float(each.alarm[each.run.anomaly].mean())
            for each in answers.runs
        },
    }


def nab(answers: Answers) -> dict[str, float]:
    """Alarms less than a day apart are one episode."""
    (only,) = answers.runs
    found = events.merged(only.run.anomaly, only.alarm, only.run.test_us, DAY_US)
    return {"events found": float(found.onset), "false_week": found.false / found.weeks}


MORE: Final[dict[str, Callable[[Answers], dict[str, float]]]] = {"SMD": smd, "TEP": tep, "NAB": nab}


def figures(name: str, answers: Answers) -> dict[str, float]:
    """All of them for the set `name`."""
    more = MORE.get(name)
    return common(answers) | (more(answers) if more else {})


def beside(name: str, ours: dict[str, float], floors: dict[str, dict[str, float]]) -> dict[str, float]:
    """What compares a method with floors of the same run."""
    if name == "TEP":
        key = "detection at 1 % FAR"
        return {"points over PCA": ours[key] - floors["PCA"][key]}
    series = [key for key in ours if key.startswith("pr_auc ")] if name == "SMD" else []
    if series:
        ratios = [ours[key] / max(floor[key] for floor in floors.values()) for key in series]
        return {"least over the better floor": min(ratios)}
    return {}


def over_limits(runs: Sequence[Scored]) -> list[tuple[float, float, float]]:
    """(multiplier, F1, FAR) had the limit been so many times what it is."""
    found = []
    for multiplier in MULTIPLIERS:
        whole = rows.pooled(
            rows.count(each.run.anomaly, np.nan_to_num(each.ratio, nan=-1.0) > multiplier) for each in runs
        )
        found.append((multiplier, whole.f1, whole.far))
    return found
