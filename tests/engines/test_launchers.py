"""Who started a process: launchers that answer, and variables that only their dead left behind."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oialr_hpo import search
from oialr_hpo.engines import launchers
from oialr_hpo.engines.launchers import Launch, find
from tests.engines.test_propulate import MPIRUN, needs_mpi

ROOT = Path(__file__).parents[2]
STRAYS = [
    {"SLURM_STEP_NUM_TASKS": "4"},
    {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_TASK_PID": "999999999"},
    {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0", "SLURM_TASK_PID": str(os.getpid()), "SLURM_PTY_PORT": "1"},
    {"SLURM_NTASKS": "4", "SLURM_PROCID": "2"},
    {"PMIX_RANK": "0"},
    {"PMIX_RANK": "3", "PMIX_NAMESPACE": "slurm.pmix.1.0", "PMIX_SERVER_URI2": "slurm.pmix;tcp4://127.0.0.1:1"},
    {"PMIX_SERVER_URI": "pmix-server:1:/tmp/pmix-1"},
    {"PMI_RANK": "2", "PMI_SIZE": "4"},
    {"PMI_RANK": "2", "PMI_SIZE": "4", "PMI_FD": "900"},
    {"PMI_RANK": "2", "PMI_SIZE": "4", "PMI_FD": "99999999999999999999"},
    {"PMI_RANK": "", "PMI_SIZE": "", "PMI_FD": "", "PMI_PORT": ""},
    {"PMI_SIZE": "four", "PMI_RANK": "²"},
    {"PMI_PORT": "127.0.0.1:1", "PMI_ID": "1"},
    {"PMI_PORT": "nowhere.invalid:99999999"},
    {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1"},
    {"SLURM_STEP_NUM_TASKS": "4", "PMIX_RANK": "1", "PMI_RANK": "2", "PMI_SIZE": "", "OMPI_COMM_WORLD_SIZE": "8"},
]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("environment", STRAYS, ids=lambda environment: " ".join(environment))
def test_strays_are_nobody(environment: dict[str, str]) -> None:
    assert find(environment) is None


def test_a_descriptor_counts_while_it_is_a_socket_with_an_open_other_end(tmp_path: Path) -> None:
    ours, launcher = socket.socketpair()
    mpich = {"PMI_RANK": "2", "PMI_SIZE": "4", "PMI_FD": str(ours.fileno())}
    assert find(mpich) == Launch("PMI", 2, 4)
    assert find(mpich | {"PMI_RANK": "7"}) == find(mpich | {"PMI_RANK": ""}) == Launch("PMI", None, 4)
    assert find(mpich | {"PMI_SIZE": ""}) == Launch("PMI", None, None)
    launcher.close()
    assert find(mpich) is None
    ours.close()
    assert find(mpich) is None
    with open(tmp_path / "file", "w") as file:
        assert find(mpich | {"PMI_FD": str(file.fileno())}) is None


def test_an_address_counts_while_someone_listens_there(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    pmix = {"PMIX_RANK": "1", "PMIX_SERVER_URI41": f"prterun-host-7@0.0;tcp4://127.0.0.1:{port}"}
    by_mpirun = pmix | {"PMIX_NAMESPACE": "prterun-host-7@1", "OMPI_COMM_WORLD_SIZE": "2", "SLURM_STEP_NUM_TASKS": "9"}
    by_srun = pmix | {"PMIX_NAMESPACE": "slurm.pmix.7.0", "OMPI_COMM_WORLD_SIZE": "9", "SLURM_STEP_NUM_TASKS": "2"}
    assert find(by_mpirun) == find(by_srun) == Launch("PMIx", 1, 2)
    assert find(pmix) == Launch("PMIx", 1, None)
    assert find({"PMI_PORT": f"127.0.0.1:{port}", "PMI_ID": "1", "PMI_SIZE": "9"}) == Launch("PMI", 1, None)
    listener.close()
    assert find(by_mpirun) is find(by_srun) is find({"PMI_PORT": f"127.0.0.1:{port}"}) is None


def test_a_task_of_srun_counts_in_itself_and_below() -> None:
    for task in (os.getpid(), os.getppid()):
        srun = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1", "SLURM_TASK_PID": str(task)}
        assert find(srun) == Launch("srun", 1, 4)


def test_the_launcher_that_answers_wins_and_the_others_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    ours, launcher = socket.socketpair()
    strays = {"PMIX_RANK": "0", "PMIX_NAMESPACE": "x", "SLURM_STEP_NUM_TASKS": "4", "SLURM_TASK_PID": str(os.getpid())}
    with ours, launcher:
        for name, value in {"PMI_RANK": "1", "PMI_SIZE": "2", "PMI_FD": str(ours.fileno()), **strays}.items():
            monkeypatch.setenv(name, value)
        launchers._launch.cache_clear()
        try:
            assert launchers.size() == 2 and launchers.launched() and not launchers.first()
            launchers.forget_strays()
            assert "PMIX_RANK" not in os.environ and os.environ["PMI_RANK"] == "1"
        finally:
            launchers._launch.cache_clear()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted({name for stray in STRAYS for name in stray})), st.text("01 -+.²٣e\0:")))
def test_no_value_is_a_traceback(environment: dict[str, str]) -> None:
    found = find(environment)
    assert found is None or found.rank is None or found.rank >= 0


@pytest.mark.parametrize("environment", STRAYS[-1:])
def test_one_process_among_strays_searches_and_says_what_it_cannot_do(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """In a process of its own: an MPI library that believes the variables aborts it without a word of ours."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom oialr_hpo import search\n"
        "for engine in (None, 'optuna'):\n"
        "    run = search.run('vit_digits', changes=['trials=1'], out=Path(sys.argv[1]) / str(engine), engine=engine,\n"
        "                     objective='tests.objectives:bowl')\n"
        "    assert run.trials()[0].finished and 'mpi4py' not in sys.modules\n"
        "search.main(['vit_digits', '--engine', 'propulate', '--out', sys.argv[1] + '/none'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and not (tmp_path / "none").exists()
    assert done.stderr.splitlines()[-1].startswith("error: --engine propulate needs two MPI ranks or more")
    assert done.stderr.count("error: ") == 1


@needs_mpi
def test_two_ranks_among_strays() -> None:
    strays = {"PMIX_RANK": "1", "PMIX_NAMESPACE": "x", "SLURM_STEP_NUM_TASKS": "4", "PMI_PORT": "127.0.0.1:1"}
    program = (
        "from oialr_hpo.engines import launchers, ranks\n"
        "print(f'{launchers.size()} {ranks.join()} {launchers.first()}\\n', end='', flush=True)\n"
        "from oialr_hpo.search import main\nmain(['vit_digits', '--engine', 'optuna'])\n"
    )
    done = subprocess.run(
        [str(MPIRUN), "-n", "2", sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | strays,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert sorted(done.stdout.splitlines()) == ["2 2 False", "2 2 True"]
    assert done.stderr.count("error: --engine optuna runs in one process: leave out mpirun and use --jobs 2") == 1


def test_ranks_whose_number_is_doubtful_all_speak(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launchers, "_launch", lambda: Launch("PMI", None, 4))
    with pytest.raises(SystemExit, match="2"):
        search.main(["vit_digits", "--engine", "optuna"])
    assert capsys.readouterr().err == "error: --engine optuna runs in one process: leave out mpirun and use --jobs 4\n"
