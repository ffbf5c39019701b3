"""Which channels there are: all that ship load, and one that does not load is listed and hides no other."""

from __future__ import annotations

from pathlib import Path

from services.common.events import AccountDescribed
from services.ingest.accounts import Connected, Stored
from services.ingest.channels import BUILT_IN
from services.ingest.directory import declaration, description, find_channels
from services.ingest.settings import IngestSettings
from tests.ingesting import FIELDS, Pigeon, pigeon

NIMBUS = """
channel: nimbus
title: Nimbus SMS
docs: https://docs.nimbus.example
account:
  number: {help: "Console > Numbers"}
  signing_key: {help: "Console > Webhooks", secret: true}
legs:
  sms: {visibility: private}
webhook:
  verify: {hmac: sha256, header: X-Nimbus-Signature, secret: signing_key}
items: "messages[]"
kind: type
kinds:
  inbound: {fact: received, id: message_id, at: sent_at, sender: {scheme: tel, value: from}, text: body}
"""


def test_every_channel_that_ships_can_be_loaded() -> None:
    found = find_channels(IngestSettings(env="test"))

    assert found.broken == {}
    assert {channel.name for channel in BUILT_IN} <= found.channels.keys()


def test_a_declared_channel_is_found_in_its_folder_and_a_broken_one_is_named_with_why(tmp_path: Path) -> None:
    (tmp_path / "nimbus.yaml").write_text(NIMBUS)
    (tmp_path / "dodo.yaml").write_text("channel: dodo\nlegs: 7\n")
    found = find_channels(IngestSettings(env="test", channels_dir=tmp_path))

    assert found.channels["nimbus"].title == "Nimbus SMS"
    assert found.broken.keys() == {"dodo"}
    assert found.broken["dodo"]


def connected(**more: object) -> Connected:
    stored = Stored("acme", "pigeon", "main", **more)  # type: ignore[arg-type]
    return Connected(pigeon(), Pigeon(tenant="acme", id="main", **FIELDS), stored, b"k" * 32)


def test_what_says_the_same_has_the_same_id() -> None:
    assert declaration(pigeon()).id == declaration(pigeon()).id
    assert description(connected()).id == description(connected()).id
    assert description(connected()).id != description(connected(queue="sales")).id


def test_no_secret_is_described() -> None:
    said = description(connected()).data.model_dump_json()

    assert not [value for value in ("key-of-the-api", "key-that-signs") if value in said]


def test_a_removed_account_is_described_as_such_and_no_more() -> None:
    data = description(connected(state="removed", title="Main", queue="sales")).data

    assert data == AccountDescribed(tenant="acme", channel="pigeon", account="main", title="Main", state="removed")
