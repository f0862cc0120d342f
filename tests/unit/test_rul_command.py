"""`industrialmind rul` on files."""

import csv
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from cloud.life import logic
from cloud.life.runs import Runs
from industrialmind.cli import app
from industrialmind.rul import parse_cap, run_rul
from industrialmind.run_table import read_runs
from shared.errors import Misconfigured, Rejected
from tests.unit.life_fleet import fleet


def write(path: Path, runs: Runs, *, shuffled: bool = False, european: bool = False) -> Path:
    order = np.random.default_rng(0).permutation(len(runs.cycles)) if shuffled else range(len(runs.cycles))
    of_row = runs.of_row
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";" if european else ",")
        writer.writerow(["Unit", "cycle", *runs.columns])
        for row in order:
            cells = [
                f"{runs.cycles[row]:g}",
                *("" if np.isnan(v) else repr(float(v)) for v in runs.values[row]),
            ]
            if european:
                cells = [cell.replace(".", ",") for cell in cells]
            writer.writerow([runs.units[of_row[row]], *cells])
    return path


def test_rows_in_any_order_and_notation_give_the_same_file(tmp_path: Path) -> None:
    known, asked = fleet(12), fleet(6, seed=4, cut=True)
    asked.values[::7, 1] = np.nan
    train, test = write(tmp_path / "train.csv", known), write(tmp_path / "test.csv", asked)
    report = run_rul(train, test, tmp_path / "out.csv", cap=50, rounds=20)
    other = run_rul(
        write(tmp_path / "t2.csv", known, european=True),
        write(tmp_path / "a2.csv", asked, shuffled=True),
        tmp_path / "o2.csv",
        cap=50,
        rounds=20,
    )
    rows, others = (
        list(csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines())) for name in ("out", "o2")
    )
    assert list(rows[0]) == ["unit", "rul", "rul_lo", "rul_hi"]
    assert [row["unit"] for row in rows] == list(asked.units)
    assert all(0 <= float(row["rul_lo"]) <= float(row["rul"]) <= float(row["rul_hi"]) for row in rows)
    assert sorted(map(str, rows)) == sorted(map(str, others))
    assert report.knee == 50
    assert report.set_points == ("load",)
    assert report.conditions == 2
    assert "note" not in str(report)
    assert other.config == report.config


def test_the_command_says_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logic, "Config", partial(logic.Config, folds=3, repeats=1, rounds=10))
    train = write(tmp_path / "train.csv", fleet(10))
    given = ["rul", "--train", str(train), "--test", str(train), "--out", str(tmp_path / "out.csv")]
    result = CliRunner().invoke(app, [*given, "--cap", "0", "--json"])
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout)
    assert told["knee"] is None
    assert told["train_units"] == told["test_units"] == 10


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "first line"),
        ("unit,cycle\na,1\n", "no column beside"),
        ("unit,time,x\na,1,2\n", "'cycle'"),
        ("unit,cycle,x\n", "no rows"),
        ("unit,cycle,x\na,1\n", "line 2: 2 columns"),
        ("unit,cycle,x\n,1,2\n", "line 2"),
        ("unit,cycle,x\na,,2\n", "line 2"),
        ("unit,cycle,x\na,1,hot\n", "line 2, column 'x'"),
        ("unit,cycle,x\na,1,2\na,1,3\n", "two different rows"),
        ("unit,cycle,x,x\na,1,2,3\n", "two columns"),
    ],
)
def test_rubbish_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "file.csv"
    path.write_text(text)
    with pytest.raises(Rejected, match=reason):
        read_runs(path)


def test_columns_of_both_files_must_fit(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", fleet(10))
    (tmp_path / "test.csv").write_text("unit,cycle,flow\na,1,2\n")
    with pytest.raises(Rejected, match="lacks the columns load, heat"):
        run_rul(train, tmp_path / "test.csv", tmp_path / "out.csv")


def test_caps_are_numbers_or_auto() -> None:
    assert parse_cap("auto") is None
    assert parse_cap("0") == 0
    assert parse_cap("125") == 125
    for text in ("-1", "nan", "long"):
        with pytest.raises(Misconfigured):
            parse_cap(text)
