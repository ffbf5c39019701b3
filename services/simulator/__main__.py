"""`python -m services.simulator`: the five platforms on one port."""

from __future__ import annotations

from services.common.http import Http
from services.common.run import Process, main
from services.common.web import Readiness
from services.simulator.accounts import Accounts
from services.simulator.app import Simulator
from services.simulator.courier import Mess
from services.simulator.settings import SimulatorSettings


def build() -> Process:
    settings = SimulatorSettings()
    accounts = Accounts.model_validate_json(settings.simulator_accounts.read_text())
    http = Http(settings)
    mess = Mess(settings.simulator_duplicates, settings.simulator_reorder)
    simulator = Simulator(accounts, http, mail_port=settings.simulator_mail_port, mess=mess)
    return Process("simulator", settings, Readiness(), [http, simulator], [], simulator.app, settings.port)


if __name__ == "__main__":
    main(build)
