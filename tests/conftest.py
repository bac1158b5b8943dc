import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("everywhere", derandomize=True, deadline=None)
settings.load_profile("everywhere")

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # processes that tests start would inherit what nohup ignores


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real CIFAR-10 and ETTm2: `OIALR_DATA`, or `shared/data` beside the checkout."""
    directory = Path(os.environ.get("OIALR_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not directory.is_dir():
        pytest.skip(f"no real data at {directory}; set OIALR_DATA to a directory with CIFAR-10 and ETTm2")
    return directory
