"""The quickstart, with made-up commands in the place of what it installs."""

import os
import subprocess
from pathlib import Path
from shutil import copy

ROOT = Path(__file__).parents[1]
MPIRUN = """\
#!/bin/sh
while [ "$1" != --out ]; do shift; done
mkdir -p "$2" && echo "searched into $2"
"""


def test_the_quickstart_takes_a_fresh_directory_and_says_how_to_go_on(tmp_path: Path) -> None:
    for name in ("quickstart.sh", "environment.sh"):
        (tmp_path / "launch").mkdir(exist_ok=True)
        copy(ROOT / "launch" / name, tmp_path / "launch" / name)
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, text in (("mpirun", MPIRUN), ("python", "#!/bin/sh\necho python $*\n")):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    (commands / "activate").write_text(f'PATH="{commands}:$PATH"\n')
    (tmp_path / ".venv" / "complete").touch()

    def quickstart(**environment: str) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if key not in ("RUN", "VENV")} | environment
        command = ["bash", str(tmp_path / "launch" / "quickstart.sh")]
        return subprocess.run(command, env=clean, capture_output=True, text=True)

    kept = tmp_path / "runs" / "quickstart" / "mine"
    kept.mkdir(parents=True)
    done = quickstart()
    assert done.returncode == 0, done.stderr
    assert "searched into runs/quickstart-2" in done.stdout and kept.exists()
    assert "train runs/quickstart-2/best/quickstart-2-1.yaml" in done.stdout
    assert "\n$ python -m oialr_hpo.export runs/quickstart-2\n" in done.stdout
    assert f"\n  source {commands / 'activate'}\n" in done.stdout
    refused = quickstart(RUN="runs/quickstart")
    assert refused.returncode == 2 and "exists; choose another" in refused.stderr
