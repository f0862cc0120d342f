"""Whatever two files hold, `score` answers with a row a row or with one clear sentence; the same files give the same bytes."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from industrialmind.score import run_score
from shared.errors import Misconfigured, Rejected

FIT_ROWS = 330  # a few more than the fewest, two a time
shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@dataclass(frozen=True)
class Column:
    """How a sensor is: `scale` may be of any size, 0 = it never moves."""

    scale: float
    offset: float
    missing: float
    odd: str


columns = st.builds(
    Column,
    scale=st.sampled_from([0.0, 1e-320, 1e-200, 1e-9, 1.0, 37.0, 1e9, 1e120, 1e200, 1e307]),
    offset=st.sampled_from([0.0, -3.0, 1e6, -1e100]),
    missing=st.sampled_from([0.0, 0.0, 0.0, 0.05, 0.3, 0.6, 1.0]),
    odd=st.sampled_from(["", "", "", "nan", "inf", "-1e308", "1e39", "0", "n/a"]),
)
times = st.sampled_from(
    ["count", "twice", "shuffled", "holes", "jitter", "float", "iso", "zones", "epoch ns", "same"]
)


@settings(parent=shared_folder, max_examples=25)
@given(
    sensors=st.lists(columns, min_size=1, max_size=7),
    kind=times,
    rows=st.integers(1, 60),
    names=st.lists(
        st.text("ab é\"',;.-%[]\t", min_size=1, max_size=6).filter(str.strip),
        min_size=7,
        max_size=7,
        unique_by=str.strip,
    ),
    seed=st.integers(0, 99),
)
def test_any_table_is_scored_row_by_row_or_refused(
    tmp_path: Path, sensors: list[Column], kind: str, rows: int, names: list[str], seed: int
) -> None:
    random = np.random.default_rng(seed)
    header = names[: len(sensors)]
    fit = _file(tmp_path / "fit.csv", header, sensors, kind, 0, FIT_ROWS, random)
    test = _file(tmp_path / "test.csv", header, sensors, kind, FIT_ROWS, rows, random)
    out = tmp_path / "out.csv"
    out.unlink(missing_ok=True)
    try:
        report = run_score(fit, test, out)
    except Rejected:
        event("refused")
        assert not out.exists()
        return
    with out.open(newline="", encoding="utf-8") as file:
        head, *told = csv.reader(file)
    with test.open(newline="", encoding="utf-8") as file:
        asked = list(csv.reader(file))[1:]
    assert head == ["time", "score", "alarm", *(name.strip() for name in header)]
    assert [row[0] for row in told] == [row[0] for row in asked]
    assert report.rows == len(told)
    for _, score, alarm, *shares in told:
        assert alarm in {"0", "1"}
        if not score:
            assert alarm == "0"
            assert set(shares) == {""}
            continue
        parts = [float(share) for share in shares]
        assert math.isfinite(float(score))
        assert float(score) >= 0
        assert min(parts) >= 0
        assert sum(parts) == pytest.approx(1, abs=1e-4) or not any(parts)
    event("scored")
    before = out.read_bytes()
    run_score(fit, test, out)
    assert out.read_bytes() == before


@settings(parent=shared_folder, max_examples=40)
@given(
    data=st.one_of(st.binary(max_size=300), st.text('time,ab;\t\n\r"0123456789.-+eENan:T é', max_size=300))
)
def test_any_bytes_are_refused_with_the_file_s_name(tmp_path: Path, data: bytes | str) -> None:
    path = tmp_path / "rubbish.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises((Rejected, Misconfigured)) as caught:
        run_score(path, path, tmp_path / "out.csv")  # three hundred bytes are too few to learn from
    assert "rubbish.csv" in str(caught.value) or "there is nothing to learn" in str(caught.value)


def _file(
    path: Path,
    header: list[str],
    sensors: list[Column],
    kind: str,
    begin: int,
    rows: int,
    random: np.random.Generator,
) -> Path:
    cells = []
    for sensor in sensors:
        values = sensor.offset + sensor.scale * random.normal(size=rows)
        texts = [repr(float(value)) for value in values]
        for at in np.flatnonzero(random.random(rows) < sensor.missing).tolist():
            texts[at] = ""
        if sensor.odd and random.random() < 0.5:
            texts[int(random.integers(rows))] = sensor.odd
        cells.append(texts)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["time", *header])
        writer.writerows(zip(_times(kind, begin, rows, random), *cells, strict=True))
    return path


def _times(kind: str, begin: int, rows: int, random: np.random.Generator) -> list[str]:
    places = np.arange(begin, begin + rows)
    match kind:
        case "twice":
            places //= 2
        case "shuffled":
            places = random.permutation(places)
        case "holes":
            places = places + np.cumsum(random.random(rows) < 0.02) * 40
        case "same":
            places[:] = begin
    match kind:
        case "iso":
            return [str(np.datetime64("2024-05-01T00:00:00") + np.timedelta64(int(at), "m")) for at in places]
        case "zones":
            return [f"2024-05-01 {at // 60 % 24:02}:{at % 60:02}:00.123456+02:00" for at in places.tolist()]
        case "epoch ns":
            return [str(1_700_000_000_000_000_000 + at * 10**9) for at in places.tolist()]
        case "float" | "jitter":
            moved = places + random.uniform(-0.3, 0.3, rows) * (kind == "jitter")
            return [repr(at) for at in (moved * 0.1).tolist()]
    return [str(at) for at in places.tolist()]
