"""An engine that is added: a file dropped into the room, and one of one's own by `package.module:Class`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import oialr_hpo
from oialr_hpo import search

ONE_BY_ONE = '''
"""One worker, one trial after another, whatever --jobs says."""
from dataclasses import replace

from oialr_hpo.engines.named.optuna import OneProcess


class _Quiet:
    pass


class OneByOne:
    over_mpi = False
    unasked = False
    sampler = "random"

    def run(self, plan):
        return OneProcess().run(replace(plan, jobs=1))
'''
CHANGES = ["trials=3", "dense_baseline=false", "start_from=[]", "early_stopping.enabled=false"]
BOWL = "tests.objectives:bowl"


def test_a_file_in_the_room_is_found_listed_and_used(tmp_path: Path) -> None:
    package = tmp_path / "oialr_hpo"
    shutil.copytree(Path(oialr_hpo.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("search_spaces", "tests"):
        (tmp_path / name).symlink_to(Path(__file__).parents[2] / name)
    (package / "engines" / "named" / "one_by_one.py").write_text(ONE_BY_ONE)
    code = (
        "from pathlib import Path; from oialr_hpo import search\n"
        "def run(out, engine): return search.run(\n"
        f"    'vit_digits', changes={CHANGES}, out=Path(out), engine=engine, jobs=2, objective='{BOWL}')\n"
        "for engine in ('one-by-one', None):\n"
        "    done = run(str(engine), engine)\n"
        "    print(engine, done.experiment.sampler.name, len(done.trials()), len({t.worker for t in done.trials()}))\n"
        "search.main(['--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert "one-by-one random 3 1" in lines and "None tpe 3 2" in lines, done.stderr
    assert "one-by-one, optuna, propulate, or package.module:Class" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("optnua", "--engine: no engine 'optnua'; did you mean 'optuna'? choose optuna, propulate, or package.module"),
        ("solo:_Quiet", "--engine: 'solo:_Quiet' has no over_mpi, unasked, sampler, run; see oialr_hpo.engines.engine"),
        ("solo:OneByTwo", "module solo has no OneByTwo; did you mean 'OneByOne'?"),
        ("yours:OneByOne", "No module named 'yours'; is its directory on PYTHONPATH?"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    (tmp_path / "solo.py").write_text(ONE_BY_ONE)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(search.ImpossibleChoice) as caught:
        search.run("vit_digits", out=tmp_path / "run", engine=name, objective=BOWL)
    assert said in str(caught.value) and not (tmp_path / "run").exists()
