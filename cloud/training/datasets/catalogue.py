"""Every data set that tests, benches and training know: where it lies, whose it is, under which licence, and what is there.

Nothing here fetches: the licences differ, and a person decides. Nothing of a set is ever copied into the project.
"""

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

from cloud.training.datasets import ai4i, azure, cmapss, nab, skab, smd, tep
from shared.errors import Misconfigured

_HERE: Final = Path()
_ROWS: Final = (".csv", ".txt", ".dat", ".jsonl")


@dataclass(frozen=True, slots=True)
class DataSet:
    """One set.

    Attributes:
        name: Of its folder.
        kind: What it is good for.
        repository: Owner and name on GitHub.
        commit: Whose files these are.
        licence: As stated there.
        files: Relative to the folder of all sets.
        header: Whether its first lines hold names.
        width: Columns, where a file may be stored transposed; 0 = count lines.
        made: How files differ from the repository's.
    """

    name: str
    kind: str
    repository: str
    commit: str
    licence: str
    files: tuple[Path, ...]
    header: bool = True
    width: int = 0
    made: str = ""


@dataclass(frozen=True, slots=True)
class Presence:
    """What of a set lies in a folder."""

    data: DataSet
    missing: tuple[Path, ...]
    rows: int

    @property
    def state(self) -> Literal["there", "partly", "absent"]:
        """In one word."""
        if not self.missing:
            return "there"
        return "absent" if len(self.missing) == len(self.data.files) else "partly"

    @property
    def how(self) -> str:
        """How to get what is missing; nothing where all is there."""
        if not self.missing:
            return ""
        named = ", ".join(str(path) for path in self.missing[:3])
        more = f" and {len(self.missing) - 3} more" if len(self.missing) > 3 else ""  # noqa: PLR2004 - named above
        made = f"; {self.data.made}" if self.data.made else ""
        return (
            f"clone {self.data.repository} from GitHub, check out {self.data.commit[:12]}, read its licence, "
            f"and put {named}{more} into the folder{made}"
        )


def _in(folder: str, *names: str) -> tuple[Path, ...]:
    return tuple(Path(folder) / name for name in names)


_CMAPSS: Final = tuple(
    path for name in (*cmapss.WITH_TEST, *cmapss.WITHOUT) for path in cmapss.files(_HERE, name)
)

CATALOGUE: Final = (
    DataSet(
        "SKAB",
        "anomalies",
        "waico/SKAB",
        "b2c0d46c2971dcbfe71e26087b6d231998bb91c2",
        "GPL-3.0",
        (*skab.files(_HERE), *_in("SKAB/anomaly-free", "anomaly-free.csv")),
    ),
    DataSet(
        "SMD",
        "anomalies",
        "tuananhphamds/MST-VAE",
        "4aa93bd2e5a6dbf1192a9a3a085e31685897b48f",
        "MIT",
        tuple(smd.files(_HERE)),
        header=False,
        made="values are the float arrays as CSV with six digits; labels are those of NetManAIOps/OmniAnomaly at 7fb0e0acf89e",
    ),
    DataSet(
        "TEP",
        "faults",
        "camaramm/tennessee-eastman-profBraatz",
        "0643318858ce7c87292bd59820b459e12a13d009",
        "permissive (University of Illinois)",
        tuple(tep.files(_HERE)),
        header=False,
        width=tep.COLUMNS,
        made="compressed by gzip",
    ),
    DataSet(
        "NAB",
        "anomalies, streaming",
        "numenta/NAB",
        "ea702d75cc2258d9d7dd35ca8e5e2539d71f3140",
        "MIT",
        tuple(nab.files(_HERE)),
        made="windows and labels of this one series are cut out of the corpus's JSON",
    ),
    DataSet(
        "C-MAPSS",
        "remaining life",
        "oluies/tedsds",
        "a5dabc4656bd979070fb64c58d74cabade1384e5",
        "Apache-2.0 repository; US government work",
        _CMAPSS,
        header=False,
        made="compressed by gzip",
    ),
    DataSet(
        "AI4I2020",
        "classification",
        "RileyYlagan/PredictiveMaintenanceProject",
        "d34b719c2351cf6104b9baf99811180088859388",
        "none stated",
        tuple(ai4i.files(_HERE)),
    ),
    DataSet(
        "AzurePdM",
        "histories of events",
        "AirtonBrasil/Predictive_Maintenance",
        "1d936129a02bd27c330910156b6a7487c0e613aa",
        "none stated",
        tuple(azure.files(_HERE)),
    ),
    DataSet(
        "AssetOpsBench",
        "work orders",
        "IBM/AssetOpsBench",
        "4f447292ef2ea147a153d24fe19e0bef26b4fd11",
        "Apache-2.0",
        _in("AssetOpsBench", "all_wo_with_code_component_events.csv", "event.csv", "alert_events.csv"),
    ),
    DataSet(
        "FAA-powerplant",
        "documents",
        "suniltyagi/aviation-engine-maintenance-rag",
        "0fc7dbf9fcfd3aa652c10ced81c0edd62402a4cd",
        "MIT repository; US government work",
        _in("FAA-powerplant", "handbook_chunks.jsonl.gz", "14_amtp_glossary.pdf"),
        header=False,
    ),
    DataSet(
        "FMEA",
        "documents and questions",
        "nlp-tlp/Paper_Archive_Hybrid_RAG_FMEA",
        "e1875fde2c32ab529d470f8ac45c1bf917844a9e",
        "MIT",
        _in("FMEA", "fmea.csv", "questions_first10.jsonl"),
        made="the first ten questions are cut out of the repository's",
    ),
    DataSet(
        "FailureSensorIQ",
        "questions",
        "IBM/FailureSensorIQ",
        "7e54f326939b6b41ad79e4448f7305edde575540",
        "CC BY 4.0",
        _in("FailureSensorIQ", "expert50.jsonl", "expert50_perturbed.jsonl"),
        header=False,
    ),
)


def look(folder: Path) -> list[Presence]:
    """What lies in `folder`, set by set.

    Raises:
        Misconfigured: A file of a set can't be read.
    """
    found = []
    for data in CATALOGUE:
        there = [path for path in data.files if (folder / path).is_file()]
        rows = sum(_count(folder / path, data) for path in there)
        found.append(Presence(data, tuple(path for path in data.files if path not in there), rows))
    return found


def _count(path: Path, data: DataSet) -> int:
    """Rows of one file; files without rows (PDF, JSON) count none."""
    kind = next((suffix for suffix in reversed(path.suffixes) if suffix != ".gz"), "")
    if kind not in _ROWS:
        return 0
    try:
        with _open(path) as file:
            if data.width:
                return sum(len(line.split()) for line in file) // data.width
            if kind == ".csv":  # a quoted cell may hold line ends
                return max(sum(1 for line in csv.reader(file) if line) - data.header, 0)
            return sum(1 for line in file if line.strip())
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise Misconfigured(f"{path} can't be read: {error}", hint="fetch it again") from error


@contextmanager
def _open(path: Path) -> Iterator[IO[str]]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            yield file
    else:
        with path.open(encoding="utf-8", newline="") as file:
            yield file
