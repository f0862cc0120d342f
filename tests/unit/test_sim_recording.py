"""Reading recordings: exact times, what is left out is said, what can't be read is refused with its line."""

from pathlib import Path

import numpy as np
import pytest

from firmware_sim.recording import COUNTER_START_US, read_mapping, read_recording
from shared.errors import Misconfigured, Rejected
from shared.settings import datasets_dir

START_US = 1_709_287_200_000_000  # 2024-03-01T10:00:00Z


def write(folder: Path, text: str, name: str = "r.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("cell", "time_us"),
    [
        ("2024-03-01 10:00:00", START_US),
        ("2024-03-01T10:00:00Z", START_US),
        ("2024-03-01T11:00:00.000001+01:00", START_US + 1),
        ("1709287200", START_US),
        ("1709287200.123457", START_US + 123_457),
        ("1709287200123", START_US + 123_000),
        ("1709287200123.457", START_US + 123_457),
        ("1709287200123457", START_US + 123_457),
    ],
)
def test_times_are_read_to_the_microsecond(tmp_path: Path, cell: str, time_us: int) -> None:
    made = read_recording(write(tmp_path, f"time,a\n{cell},1.5\n"))
    assert made.times_us.tolist() == [time_us]
    assert made.values.tolist() == [[1.5]]


def test_a_counter_needs_an_interval(tmp_path: Path) -> None:
    path = write(tmp_path, "row,a\n0,1\n1,2\n2,3\n")
    with pytest.raises(Misconfigured, match="--interval"):
        read_recording(path)
    assert (read_recording(path, interval_s=0.1).times_us - COUNTER_START_US).tolist() == [
        0,
        100_000,
        200_000,
    ]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_any_delimiter_slugs_and_empty_cells(tmp_path: Path, mark: str) -> None:
    text = "Time|Flow Rate|flow-rate|Temp (°C)\n2024-03-01 10:00:00|1|NaN|\n\n2024-03-01 10:00:01||2|3e0\n"
    made = read_recording(write(tmp_path, "\ufeff" + text.replace("|", mark)))
    assert made.sensors == ("flow-rate", "flow-rate-2", "temp-c")
    assert made.columns == ("Flow Rate", "flow-rate", "Temp (°C)")
    assert made.units == ("1", "1", "1")
    assert made.readings == 3
    assert np.isnan(made.values[0, 1:]).all()


def test_a_decimal_comma_is_read(tmp_path: Path) -> None:
    assert read_recording(write(tmp_path, "t;a\n2024-03-01;1,25\n")).values.tolist() == [[1.25]]


def test_labels_and_text_are_left_out_and_said(tmp_path: Path) -> None:
    text = "t,a,anomaly,Is_Anomaly,note\n2024-03-01,1,0,0,fine\n"
    made = read_recording(write(tmp_path, text))
    assert made.sensors == ("a",)
    assert [note.split("'")[1] for note in made.notes] == ["anomaly", "Is_Anomaly", "note"]
    kept = read_recording(write(tmp_path, text), keep_columns=("anomaly",))
    assert kept.sensors == ("a", "anomaly")


def test_a_mapping_names_units_and_ignores(tmp_path: Path) -> None:
    path = write(tmp_path, "t,Volume Flow,label,b\n2024-03-01,1,2,3\n")
    mapping = write(
        tmp_path,
        "columns:\n  Volume Flow: {sensor: flow, unit: l/min}\n  label: {}\n  b: {ignore: true}\n",
        "m.yaml",
    )
    made = read_recording(path, mapping=mapping)
    assert made.sensors == ("flow", "label")
    assert made.units == ("l/min", "1")
    assert made.notes == ("column 'b' left out by the mapping",)


@pytest.mark.parametrize(
    "text",
    ["", "[", "columns: 3", "columns: {a: 4}", "columns: {a: {sensor: A b}}", "columns: {a: {colour: red}}"],
)
def test_a_mapping_that_cannot_be_one_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Misconfigured, match="mapping"):
        read_mapping(write(tmp_path, text, "m.yaml"))


def test_a_mapping_for_another_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "t,a\n2024-03-01,1\n")
    with pytest.raises(Misconfigured, match="no column 'z'"):
        read_recording(path, mapping=write(tmp_path, "columns: {z: {unit: A}}", "m.yaml"))
    with pytest.raises(Misconfigured, match="no column 'y'"):
        read_recording(path, keep_columns=("y",))


def test_rows_are_put_in_order_and_repeats_are_dropped(tmp_path: Path) -> None:
    text = "t,a,b\n2024-03-02,2,2\n2024-03-01,1,\n2024-03-01,1,5\n2024-03-02,2,2\n2024-03-03,inf,3\n"
    made = read_recording(write(tmp_path, text))
    assert np.array_equal(made.values, np.array([[1, 5], [2, 2], [np.nan, 3]]), equal_nan=True)
    assert len(made.times_us) == 3
    assert len(made.notes) == 3


def test_one_time_with_two_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="line 4: the time of line 2 again"):
        read_recording(write(tmp_path, "t,a\n2024-03-01,1\n2024-03-02,1\n2024-03-01,2\n"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("\n\n", "one column"),
        ("time\n1\n", "one column"),
        ("time,a\n", "no rows"),
        ("1,2\n3,4\n", "no header"),
        ("time,a,a\n2024-03-01,1,2\n", "two columns 'a'"),
        ("time,a\n2024-03-01,1,2\n", "line 2: 3 cells"),
        ("time,a\n2024-03-01,1\n2024-03-02,x\n", "line 3, column 'a': 'x'"),
        ("time,a\n2024-03-01,1\nyesterday,2\n", "line 3: time 'yesterday'"),
        ("time,a\n1999-03-01,1\n", "outside the years"),
        ("time,a\nsoon,1\n", "line 2: time 'soon'"),
        ("time,a\n1709287200,1\n2024-03-01,1\n", "line 3: time"),
        ("time,a\n2024-03-01,high\n", "no numeric column"),
        ("time,a\0\n", "NUL"),
    ],
)
def test_what_cannot_be_a_recording_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(Rejected, match=problem):
        read_recording(write(tmp_path, text))


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file"):
        read_recording(tmp_path / "none.csv")
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"time,a\n\xff\xfe,1\n")
    with pytest.raises(Rejected, match="UTF-8"):
        read_recording(binary)


SKAB = datasets_dir() / "SKAB" / "valve1" / "0.csv"


@pytest.mark.skipif(not SKAB.exists(), reason="no data")
def test_a_real_recording_is_read_whole() -> None:
    made = read_recording(SKAB)
    lines = SKAB.read_text().splitlines()
    assert made.readings == 8 * (len(lines) - 1) == made.values.size
    assert made.sensors[-1] == "volume-flow-raterms"
    assert len(made.notes) == 2
    assert made.values[5].tolist() == [float(cell) for cell in lines[6].split(";")[1:9]]
