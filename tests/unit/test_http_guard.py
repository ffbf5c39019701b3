"""A guarded call goes to the public internet or nowhere, and says which."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.common.http import Forbidden, Http, public
from services.common.settings import CommonSettings


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    one = Http(CommonSettings(env="test"))
    await one.start()
    yield one
    await one.stop()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://user:password@example.org/",
        "https://example.org:22/",
        "https://localhost/",
        "https://0x7f.1/",
        "https://2130706433/",
        "file:///etc/passwd",
    ],
)
async def test_what_is_not_public_is_never_called(http: Http, url: str) -> None:
    with pytest.raises(Forbidden):
        await http.provider("GET", url, guarded=True)


@pytest.mark.parametrize(
    "address", ["224.0.0.1", "fec0::1", "2002:7f00:1::", "::127.0.0.1", "100.64.0.1", "0.0.0.0", "fe80::1%eth0"]
)
def test_addresses_that_only_look_public_are_not(address: str) -> None:
    assert not public(address)


def test_public_addresses_are() -> None:
    assert public("93.184.216.34")
    assert public("2606:2800:220:1:248:1893:25c8:1946")
