"""Built-in tasks are the folders of their room, and are named by the paths of their classes too."""

import subprocess
import sys

import pytest

from oialr_hpo import tasks

BUILT_IN = {
    "forecasting": "oialr_hpo.tasks.forecasting:Forecasting",
    "image_classification": "oialr_hpo.tasks.image_classification:ImageClassification",
    "image_folder": "oialr_hpo.tasks.image_folder:ImageFolder",
}


def test_a_built_in_task_is_a_class_with_settings() -> None:
    assert tuple(BUILT_IN) == tasks.BUILT_IN
    for name, path in BUILT_IN.items():
        assert tasks.load_task(name) is tasks.load_task(path)
        assert tasks.load_settings(name) is tasks.load_task(name).Settings


def test_settings_do_without_torch_where_a_module_loads_its_task_when_asked() -> None:
    """As those of the built-in tasks, and others that are made like them."""
    code = (
        "import sys\nfrom oialr_hpo import tasks\n"
        f"for name, path in {BUILT_IN}.items():\n"
        "    assert tasks.load_settings(path) is tasks.load_settings(name)\n"
        "print(*map(tasks.load_settings, tasks.BUILT_IN), 'torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.endswith(" False\n")


def test_a_wrong_name_offers_the_right_ones() -> None:
    with pytest.raises(LookupError, match="'image_folders' is neither a built-in task .*image_folder.* nor package"):
        tasks.load_task("image_folders")
    with pytest.raises(LookupError, match="has no ImageFoldr; did you mean 'ImageFolder'?"):
        tasks.load_task("oialr_hpo.tasks.image_folder:ImageFoldr")
