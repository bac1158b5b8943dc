"""What `python -m oialr_hpo.check` says of GPUs, as torch would tell of machines that have some."""

from typing import Any

from oialr_hpo.check.devices import device_map
from oialr_hpo.check.findings import Findings
from oialr_hpo.check.machine import Place


def place(rank: int, host: str, visible: str | None = None) -> Place:
    return Place(rank, host, local_rank=rank, cpus=frozenset({rank}), threads=1, visible=visible, versions={})


def gpu(index: int, of: int = 2, **more: Any) -> dict[str, Any]:
    """What torch would say of a machine with GPUs."""
    name = {"device": f"cuda:{index}", "name": "H100", "identity": f"GPU-{index}", "memory": 80 * 2**30}
    return {"built": "CUDA 12.8", "gpus": of} | name | more


def test_ranks_that_share_a_gpu_are_named() -> None:
    findings = Findings()
    ranks = [place(rank, "n1", "0,1") for rank in range(3)]
    rows = device_map(ranks, {0: gpu(0), 1: gpu(1), 2: gpu(0)}, findings).splitlines()
    assert rows[2].endswith("cuda:0, shared with rank 2 (H100, 80 GiB)")
    assert rows[3].endswith("cuda:1 (H100, 80 GiB)")
    assert [line.split(":")[1].strip() for line in findings.warnings] == ["3 ranks share 2 GPUs"]
    assert not findings.errors


def test_the_same_number_of_gpus_on_two_hosts_is_not_shared() -> None:
    """--gpus-per-task=1: every rank sees one GPU, as cuda:0."""
    findings = Findings()
    ranks = [place(0, "n1", "0"), place(1, "n1", "1"), place(2, "n2", "0")]
    probes = {0: gpu(0, of=1), 1: gpu(0, of=1, identity="GPU-1"), 2: gpu(0, of=1)}
    assert "shared" not in device_map(ranks, probes, findings)
    assert not findings.warnings


def test_gpus_that_idle_fail_or_stay_unseen_are_named() -> None:
    findings = Findings()
    unseen = {"built": "CPUs only", "gpus": 0, "device": "cpu", "name": "cpu", "identity": "cpu"}
    probes = {0: gpu(0, of=4), 1: unseen, 2: gpu(0, error="CUDA error: out of memory")}
    device_map([place(0, "n1"), place(1, "n2", "0,1"), place(2, "n3")], probes, findings)
    assert findings.warnings == [
        "n1: 3 of 4 GPUs idle; start a rank for each",
        "n2: GPUs 0,1 are given, but torch (built for CPUs only) sees none: trials train on the CPU",
        "n3: 1 of 2 GPUs idle; start a rank for each",
    ]
    assert findings.errors == ["rank 2 on n3: torch: CUDA error: out of memory"]
