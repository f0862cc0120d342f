"""Every server: installed, written to, up again with its data after a kill and after a stop, ended by its pid."""

from contextlib import closing

import psutil
import pytest

from deploy.servers.catalog import SERVERS
from deploy.servers.process import Server
from tests.real.clients import CLIENTS

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


@pytest.mark.parametrize("name", SERVERS)
def test_it_keeps_what_it_took_over_a_kill_and_a_stop(name: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(name)
    url = server.url
    with closing(CLIENTS[name](server)) as client:
        client.write()
        assert client.read() == "42"
        for end in (server.kill, server.stop):
            pid = server.pid
            end()
            assert not psutil.pid_exists(pid)
            assert not server.running

            server.start()
            assert server.pid != pid
            assert server.url == url
            assert client.read() == "42"
