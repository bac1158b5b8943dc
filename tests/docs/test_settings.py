"""The page of all settings says what their classes say."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from oialr_hpo import methods, tasks
from oialr_hpo.experiment import Experiment

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_its_command_prints() -> None:
    printed = subprocess.run([sys.executable, DOCS / "settings.py"], capture_output=True, text=True, check=True).stdout
    assert printed == (DOCS / "settings.md").read_text(), "run: python docs/settings.py > docs/settings.md"


OF_METHODS = [methods.load_method(name).Settings for name in methods.METHODS.names()]


@pytest.mark.parametrize("model", [Experiment, *map(tasks.load_settings, tasks.BUILT_IN), *OF_METHODS])
def test_every_setting_describes_itself(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            test_every_setting_describes_itself(field.annotation)
        else:
            assert field.description, f"{model.__name__}.{name} has no description"
