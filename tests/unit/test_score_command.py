import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from industrialmind.score import run_score
from shared.errors import Misconfigured, Rejected
from tests.models import SENSORS, healthy

START = datetime(2024, 5, 1, 6, 30, tzinfo=UTC)


def iso(row: int) -> str:
    return (START + timedelta(seconds=row)).replace(tzinfo=None).isoformat(sep=" ")


def write(
    path: Path,
    times: list[object],
    table: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    names: tuple[str, ...] = SENSORS,
    delimiter: str = ",",
    end: str = "\n",
) -> Path:
    lines = [delimiter.join(["time", *names])]
    lines += [
        delimiter.join([str(time), *("" if np.isnan(cell) else repr(cell) for cell in row)])
        for time, row in zip(times, table.tolist(), strict=True)
    ]
    path.write_text(end.join(lines) + end, encoding="utf-8", newline="")
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return write(tmp_path / "fit.csv", [iso(row) for row in range(600)], healthy(600))


def faulty(rows: int = 300) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    table = healthy(rows, seed=1, start=600)
    table[200:, 2] -= 0.3
    return table


def test_a_row_a_row_with_the_file_s_own_names(tmp_path: Path, known: Path) -> None:
    test = write(tmp_path / "test.csv", [iso(600 + row) for row in range(300)], faulty())
    report = run_score(known, test, tmp_path / "out.csv")
    rows = read(tmp_path / "out.csv")
    assert list(rows[0]) == ["time", "score", "alarm", *SENSORS]
    assert [row["time"] for row in rows] == [iso(600 + row) for row in range(300)]
    assert all(row["score"] for row in rows)  # warm-up came from FIT's tail
    alarms = [row["alarm"] for row in rows]
    assert alarms[:200].count("1") == 0
    assert set(alarms[216:]) == {"1"}
    assert max(SENSORS, key=lambda name: float(rows[250][name])) == "pressure"
    assert sum(float(rows[250][name]) for name in SENSORS) == pytest.approx(1, abs=1e-5)
    assert (report.rows, report.scored, report.alarms) == (300, 300, alarms.count("1"))
    assert report.provisional
    assert "300 rows, 300 scored" in str(report)
    assert report.as_dict()["step"] == "1 s"
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("delimiter", "end", "unit"),
    [(";", "\r\n", 1), ("\t", "\n", 60_000), (",", "\r\n", 0.5), (";", "\n", 10**15)],
)
def test_numbers_as_times_delimiters_and_line_ends(
    tmp_path: Path, delimiter: str, end: str, unit: float
) -> None:
    fit = write(
        tmp_path / "f.csv", [unit * row for row in range(600)], healthy(600), delimiter=delimiter, end=end
    )
    test = write(
        tmp_path / "t.csv", [unit * row for row in range(300)], faulty(), delimiter=delimiter, end=end
    )
    report = run_score(fit, test, tmp_path / "out.csv")
    assert report.scored == 300
    assert 80 <= report.alarms <= 110
    assert report.step == f"{unit:g}"


def test_decimal_commas_missing_words_and_a_byte_order_mark(tmp_path: Path) -> None:
    def german(path: Path, start: int, table: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Path:
        lines = ["Zeit;" + ";".join(SENSORS)]
        for at, row in enumerate(table.tolist()):
            cells = [str(cell).replace(".", ",") for cell in row]
            lines.append(";".join([f"{start + at}", *cells]))
        lines[5] = lines[5].rsplit(";", 1)[0] + ";n/a"
        lines.insert(7, "")
        path.write_text("\n".join(lines), encoding="utf-8-sig")
        return path

    fit = german(tmp_path / "f.csv", 0, healthy(600))
    assert run_score(fit, german(tmp_path / "t.csv", 600, faulty()), tmp_path / "o.csv").scored == 300


def test_holes_doubled_times_and_disorder_have_an_answer(tmp_path: Path, known: Path) -> None:
    table = faulty()
    times: list[object] = [iso(600 + row + (3600 if row >= 150 else 0)) for row in range(300)]
    times[10] = times[9]
    times[20], times[21] = times[21], times[20]
    table[50:60] = np.nan
    test = write(tmp_path / "t.csv", times, table)
    report = run_score(known, test, tmp_path / "o.csv")
    rows = read(tmp_path / "o.csv")
    assert [row["time"] for row in rows] == times
    unscored = [at for at, row in enumerate(rows) if not row["score"]]
    assert {59, 150, 155} <= set(unscored)
    assert set(unscored) <= {*range(50, 80), *range(150, 170)}
    assert all(rows[at]["alarm"] == "0" and rows[at]["flow"] == "" for at in unscored)
    assert report.scored == 300 - len(unscored)


def test_columns_in_another_order_score_the_same_and_more_columns_are_named(
    tmp_path: Path, known: Path
) -> None:
    times: list[object] = [iso(600 + row) for row in range(300)]
    run_score(known, write(tmp_path / "t.csv", times, faulty()), tmp_path / "o.csv")
    order = [3, 1, 0, 2]
    more = np.column_stack([faulty()[:, order], np.zeros(300)])
    names = (*(SENSORS[at] for at in order), "operator")
    report = run_score(known, write(tmp_path / "p.csv", times, more, names), tmp_path / "q.csv")
    assert "operator" in str(report)
    first, second = read(tmp_path / "o.csv"), read(tmp_path / "q.csv")
    assert list(second[0]) == ["time", "score", "alarm", *(SENSORS[at] for at in order)]
    assert [row["score"] for row in first] == [row["score"] for row in second]


def test_a_constant_column_is_not_judged_and_said_so(tmp_path: Path) -> None:
    def four(
        table: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    ) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        table[:, 0] = 3.0
        return table

    fit = write(tmp_path / "f.csv", list(range(600)), four(healthy(600)))
    report = run_score(fit, write(tmp_path / "t.csv", list(range(300)), four(faulty())), tmp_path / "o.csv")
    assert report.unlearnt == ("speed",)
    assert "never moves in f.csv, so it is not judged: speed" in str(report)


def test_a_single_row_can_be_scored(tmp_path: Path, known: Path) -> None:
    test = write(tmp_path / "t.csv", [iso(600)], faulty(1))
    assert run_score(known, test, tmp_path / "o.csv").scored == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must name a time column"),
        ("time\n1\n", "must name a time column"),
        ("0,1,2\n1,2,3\n", "holds numbers"),
        ("time,a,a\n0,1,1\n", "two columns are named 'a'"),
        ("time,a,\n0,1,1\n", "column 3 has no name"),
        ("time,speed,flow,pressure,temperature\n", "no rows"),
        ("time,speed,flow\n2024-01-01 00:00:00,1\n", "line 2: 2 columns, the first line names 3"),
        ("time,speed,flow\n0,1,broken\n", "line 2, column 'flow': 'broken' is not a number"),
        (",time,speed\n0,2024-01-01 00:00:00,1\n", "column 'time': '2024-01-01 00:00:00' is not a number; put the times first"),
        ("time,speed\nyesterday,1\n", "line 2: 'yesterday' is not a time; use ISO 8601"),
        ("time,speed\n0.5,1\nx,1\n", "line 3: 'x' is not a time"),
        ("time,speed\n2024-01-01,1\n", "lacks the columns flow, pressure, temperature"),
        ("time,speed,flow,pressure,temperature\n5,1,1,1,1\n", "differ in kind"),
        ("time,speed,flow,pressure,temperature\n2024-05-01 06:00:00,1,1,1,1\n2024-05-01 06:00:05,1,1,1,1\n", "every 1 s, the machine sends one every 5 s"),
    ],
)  # fmt: skip
def test_a_test_file_that_can_t_be_used_says_where(
    tmp_path: Path, known: Path, text: str, reason: str
) -> None:
    test = tmp_path / "bad.csv"
    test.write_text(text, encoding="utf-8")
    with pytest.raises(Rejected, match=reason):
        run_score(known, test, tmp_path / "o.csv")
    assert not (tmp_path / "o.csv").exists()


def test_files_that_are_not_there_or_no_text(tmp_path: Path, known: Path) -> None:
    with pytest.raises(Misconfigured, match="can't be read"):
        run_score(tmp_path / "none.csv", known, tmp_path / "o.csv")
    with pytest.raises(Misconfigured, match="can't be written"):
        run_score(known, known, tmp_path / "none" / "o.csv")
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"\xff\xfe\x00a,b\n")
    with pytest.raises(Rejected, match="UTF-8"):
        run_score(binary, known, tmp_path / "o.csv")


def test_a_fit_file_with_one_time_or_too_few_rows_says_so(tmp_path: Path, known: Path) -> None:
    same = write(tmp_path / "s.csv", [5] * 50, healthy(50))
    with pytest.raises(Rejected, match="all rows have the same time"):
        run_score(same, same, tmp_path / "o.csv")
    few = write(tmp_path / "few.csv", [iso(row) for row in range(50)], healthy(50))
    with pytest.raises(Rejected, match="too few to learn from: give at least 144 rows"):
        run_score(few, known, tmp_path / "o.csv")


@pytest.mark.parametrize(
    "known", [np.arange(600) % 12 == 0, np.arange(600) < 200, np.zeros(600, dtype=np.bool_)]
)
def test_a_sensor_with_too_few_values_is_left_out_and_named(
    tmp_path: Path, known: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> None:
    fit, asked = healthy(600), faulty()
    fit[~known, 1] = np.nan
    test = write(tmp_path / "t.csv", list(range(600, 900)), asked)
    report = run_score(write(tmp_path / "f.csv", list(range(600)), fit), test, tmp_path / "o.csv")
    rows = read(tmp_path / "o.csv")
    assert report.scored == 300
    assert report.unlearnt == (SENSORS[1],)
    assert f"has too few values in f.csv, so it is not judged: {SENSORS[1]}" in str(report)
    assert list(rows[0]) == ["time", "score", "alarm", *SENSORS]
    assert {row[SENSORS[1]] for row in rows} == {"0"}
    assert {row["alarm"] for row in rows[216:]} == {"1"}


def test_what_is_not_scored_is_said(tmp_path: Path, known: Path) -> None:
    table = faulty()
    table[100:, :2] = np.nan
    report = run_score(
        known, write(tmp_path / "t.csv", [iso(600 + row) for row in range(300)], table), tmp_path / "o.csv"
    )
    assert f"{300 - report.scored} rows are not scored: values are missing" in str(report)
    assert 100 < report.scored < 120


def test_lines_that_end_in_a_delimiter_and_quoted_names_with_others(tmp_path: Path) -> None:
    def ended(path: Path, begin: int, table: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Path:
        lines = ['time,"a;b;c;d;e;f",b,c,d,,']
        lines += [f"{begin + at}," + ",".join(map(repr, row)) + ",," for at, row in enumerate(table.tolist())]
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    ended(tmp_path / "t.csv", 600, faulty())
    report = run_score(ended(tmp_path / "f.csv", 0, healthy(600)), tmp_path / "t.csv", tmp_path / "o.csv")
    assert (report.scored, report.sensors) == (300, 4)
    assert list(read(tmp_path / "o.csv")[0])[3:] == ["a;b;c;d;e;f", "b", "c", "d"]


def test_numbers_that_no_sensor_has_are_missing_values(tmp_path: Path) -> None:
    fit = healthy(600)
    fit[100, 0], fit[101, 0], fit[102, 1] = 1e300, -1e308, np.inf
    test = write(tmp_path / "t.csv", list(range(600, 900)), faulty())
    report = run_score(write(tmp_path / "f.csv", list(range(600)), fit), test, tmp_path / "o.csv")
    assert 80 <= report.alarms <= 110


def test_three_hundred_sensors(tmp_path: Path) -> None:
    names = tuple(f"s{number}" for number in range(300))
    wide = np.random.default_rng(1).normal(size=(260, 300))
    fit = write(tmp_path / "f.csv", list(range(200)), wide[:200], names)
    test = write(tmp_path / "t.csv", list(range(200, 260)), wide[200:], names)
    assert run_score(fit, test, tmp_path / "o.csv").scored == 60


@pytest.mark.parametrize("time", ["9" * 400, "1e300", "nan"])
def test_times_that_are_no_times_are_named_by_their_line(tmp_path: Path, known: Path, time: str) -> None:
    times: list[object] = [str(row) for row in range(300)]
    times[5] = time
    test = write(tmp_path / "t.csv", times, faulty())
    text = test.read_text(encoding="utf-8").replace("\n", "\n\n", 1)  # a blank line counts
    test.write_text(text, encoding="utf-8")
    with pytest.raises(Rejected, match=r"line 8: .* is not a time"):
        run_score(known, test, tmp_path / "o.csv")


def test_what_is_read_from_is_not_written_to(tmp_path: Path, known: Path) -> None:
    before = known.read_bytes()
    (tmp_path / "x").mkdir()
    with pytest.raises(Misconfigured, match="is what is read from"):
        run_score(known, known, tmp_path / "x" / ".." / "fit.csv")
    assert known.read_bytes() == before
