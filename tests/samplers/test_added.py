"""Samplers that are added: a file dropped into the room, and one of one's own by `package.module:Class`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import oialr_hpo
from oialr_hpo import search
from oialr_hpo.experiment import ExperimentError, load
from oialr_hpo.mistake import Mistake

LADDER = '''
"""Climbs: every proposal lies a step above the one before."""
from oialr_hpo.samplers import Propagator, individual


class Ladder(Propagator):
    many_goals = True

    def __call__(self, individuals, pending=()):
        step = (len(individuals) + 1) / 100
        return individual(self.space, [step] * len(self.space))
'''
FLAWED = """
from oialr_hpo.samplers import Propagator, individual
class Raises(Propagator):
    def __call__(self, individuals, pending=()):
        raise RuntimeError("out of ideas")
class Numbers(Propagator):
    def __call__(self, individuals, pending=()):
        return [0.5]
class Nowhere(Propagator):
    def __call__(self, individuals, pending=()):
        return individual(self.space, [float("nan")] * len(self.space))
class Unmade(Propagator):
    def __init__(self, settings, space):
        pass
class Needy(Propagator):
    needs = ("no_such_package",)
class Stranger:
    pass
"""
CHANGES = ["trials=3", "dense_baseline=false", "start_from=[]", "search={oialr.cutoff: {float: [0.0, 0.5]}}"]
BOWL = "tests.objectives:bowl"


def test_a_file_in_the_room_is_found_checked_listed_and_used(tmp_path: Path) -> None:
    package = tmp_path / "oialr_hpo"
    shutil.copytree(Path(oialr_hpo.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("search_spaces", "tests"):
        (tmp_path / name).symlink_to(Path(__file__).parents[2] / name)
    (package / "samplers" / "ladder.py").write_text(LADDER)
    code = (
        "from pathlib import Path; from oialr_hpo import experiment, search\n"
        "for name in ('laddr', 'ladder'):\n"
        "    try: experiment.load('vit_digits', ['sampler.name=' + name, 'trials=3'])\n"
        "    except experiment.ExperimentError as error: print(error)\n"
        f"changes = [*{CHANGES}, 'sampler.name=ladder']\n"
        f"run = search.run('vit_digits', changes=changes, out=Path('run'), objective='{BOWL}')\n"
        "print([round(trial.settings['oialr.cutoff'], 3) for trial in run.trials()])\n"
        "search.main(['--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert "no sampler 'laddr'; did you mean 'ladder'? choose cmaes, " in lines[0], done.stderr
    assert "[0.005, 0.01, 0.015]" in lines
    assert "gp, ladder, nsga2" in " ".join(done.stdout.split())


def test_one_of_ones_own_proposes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_sampler.py").write_text(LADDER)
    monkeypatch.syspath_prepend(tmp_path)
    changes = [*CHANGES, "sampler.name=own_sampler:Ladder"]
    run = search.run("vit_digits", changes=changes, out=tmp_path / "run", objective=BOWL)
    assert [round(trial.settings["oialr.cutoff"], 3) for trial in run.trials()] == [0.005, 0.01, 0.015]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("evolutoin", "sampler.name: no sampler 'evolutoin'; did you mean 'evolution'? choose cmaes, "),
        ("flaws:Raises", "sampler.name: flaws:Raises: RuntimeError: out of ideas (flaws.py:5)"),
        ("flaws:Numbers", "what it proposes is list; return oialr_hpo.samplers.individual(space, genes)"),
        ("flaws:Nowhere", "its genes [nan] are no numbers in [0, 1]"),
        ("flaws:Unmade", "flaws:Unmade: TypeError: "),
        ("flaws:Needy", "sampler 'flaws:Needy' needs the package no_such_package: pip install no_such_package"),
        ("flaws:Stranger", "'flaws:Stranger' is no class that extends oialr_hpo.samplers.Propagator"),
        ("flaws:Raise", "module flaws has no Raise; did you mean 'Raises'?"),
        ("flows:Raises", "No module named 'flows'; is its directory on PYTHONPATH?"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    (tmp_path / "flaws.py").write_text(FLAWED)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Mistake) as caught:
        search.run("vit_digits", changes=[*CHANGES, f"sampler.name={name}"], out=tmp_path / "run", objective=BOWL)
    assert said in str(caught.value)


def test_a_sampler_of_one_goal_is_refused_for_two() -> None:
    with pytest.raises(
        ExperimentError, match="pso knows one goal, score names 2; choose one of gp, nsga2, random, tpe"
    ):
        load(
            "vit_digits",
            ["score.minimize=[error, trainable_percent]", "score.trainable_weight=0.0", "sampler.name=pso"],
        )
