from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hooks of a folder's conftest see the items of all folders."""
    if torch.cuda.is_available():
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="no CUDA GPU"))


@pytest.fixture
def gpu() -> torch.device:
    return torch.device("cuda", 0)
