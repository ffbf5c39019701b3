"""`python -m services.identity`"""

from __future__ import annotations

from services.common.run import main
from services.identity.app import build
from services.identity.settings import IdentitySettings

if __name__ == "__main__":
    main(lambda: build(IdentitySettings()))
