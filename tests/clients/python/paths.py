"""Where the repository and the binary under test are. Of the standard library alone: Node's tests use it too."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
BINARY = Path(
    os.environ.get("UPROAR_BIN")
    or Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release" / "uproar"
)
