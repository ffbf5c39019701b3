"""`python -m services.router`"""

from __future__ import annotations

from services.common.run import main
from services.router.app import build
from services.router.settings import RouterSettings

if __name__ == "__main__":
    main(lambda: build(RouterSettings()))
