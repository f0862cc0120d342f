"""The floor: HTTP posts of ready-made lines, each connection a thread that does nothing but send and hear the answer.

Run: python -m bench.influx.raw_poster HOST:PORT PATH FILE BATCH CONNECTIONS, with the token on standard input, then how
many lines to post, part after part, in whole batches.
"""

import http.client
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from bench.peers.stand_in import say


def post(address: str, path: str, token: str, bodies: Sequence[bytes]) -> None:
    """One connection's part. Raises RuntimeError if the server refuses one."""
    connection = http.client.HTTPConnection(address, timeout=60)
    headers = {"Authorization": f"Token {token}"}
    for body in bodies:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != http.client.NO_CONTENT:
            raise RuntimeError(f"{answer.status} {text.decode(errors='replace')}")
    connection.close()


def main() -> None:
    """Post part after part as told."""
    address, path, file, batch, connections = sys.argv[1:6]
    token = sys.stdin.readline().strip()
    lines = Path(file).read_bytes().splitlines()
    size, threads = int(batch), int(connections)
    bodies = [b"\n".join(lines[at : at + size]) for at in range(0, len(lines), size)]
    del lines
    say(ready=True)
    for word in sys.stdin:
        count = int(word) // size
        part, bodies = bodies[:count], bodies[count:]
        posts = [
            threading.Thread(target=post, args=(address, path, token, part[n::threads]))
            for n in range(threads)
        ]
        for each in posts:
            each.start()
        for each in posts:
            each.join()


if __name__ == "__main__":
    main()
