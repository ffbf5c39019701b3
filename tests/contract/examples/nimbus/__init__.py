"""Nimbus SMS (invented): a channel that is a YAML file and nothing else."""

from pathlib import Path

from services.ingest.contract import load

CHANNEL = load(Path(__file__).parent / "channel.yaml")
