"""How fast the stand-in for a broker is, with the floor as its subscriber: nothing measured against it can be faster.

Run: PYTHONPATH=. python bench/stand_in.py
"""

import tempfile
from pathlib import Path

from bench.peers.process import Started, python
from bench.peers.scenario import json_readings

MESSAGES = 500_000


def main() -> None:
    """Print one line a round."""
    with tempfile.TemporaryDirectory() as folder:
        scenario = json_readings(Path(folder) / "json", MESSAGES)
        for _ in range(3):
            kept = Path(folder) / "payloads"
            with Started(python("bench.peers.stand_in", str(scenario.folder))) as source:
                port = source.heard("port")
                arguments = (f"127.0.0.1:{port}", "plant/#", str(scenario.count), str(kept))
                with Started(python("bench.peers.raw_subscriber", *arguments)) as subscriber:
                    subscriber.tell(":")
                    source.hear()
                    source.tell("go")
                    told = source.hear()
                    subscriber.heard("ended")
                    took = told["ended"] - told["started"]
                    used = source.used().cpu_s, subscriber.used().cpu_s
            right = kept.read_bytes() == b"".join(scenario.payloads(scenario.count))
            print(
                f"{scenario.count / took:,.0f} messages/s, CPU s a million: stand-in {used[0] * 2:.2f}, "
                f"subscriber {used[1] * 2:.2f}; payloads {'right' if right else 'WRONG'}"
            )


if __name__ == "__main__":
    main()
