"""What the ranks compute on, as torch says, and whether they use it well."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from oialr_hpo.check.findings import Findings
from oialr_hpo.check.machine import Place, ranges
from oialr_hpo.check.ranks import Ranks
from oialr_hpo.engines.process import LAUNCHER_VARIABLES
from oialr_hpo.runs.printing import table


def ask_torch(ranks: Ranks, place: Place, places: Sequence[Place]) -> dict[int, dict[str, Any]]:
    """What torch says of each rank's device, asked in one process per node and set of visible GPUs."""
    alike = [other for other in places if (other.host, other.visible) == (place.host, place.visible)]
    found: dict[int, dict[str, Any]] = {}
    if alike[0] == place:
        told = _report([other.local_rank for other in alike])
        for other, device in zip(alike, told.pop("workers", alike), strict=True):
            found[other.rank] = told | (device if isinstance(device, dict) else {})
    return {rank: probe for part in ranks.gather(found) for rank, probe in part.items()}


def _report(indices: Sequence[int]) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHER_VARIABLES)}
    command = [sys.executable, "-m", "oialr_hpo.training.devices", *map(str, indices)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        return {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def device_map(places: Sequence[Place], probes: dict[int, dict[str, Any]], findings: Findings) -> str:
    """A line per rank: host, CPUs, device; and what is odd about the devices.

    Args:
        places: of the ranks, in their order.
        probes: what `oialr_hpo.training.devices.report` says of each rank's device, by rank.
    """
    sharing: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place in places:
        probe = probes[place.rank]
        if "error" in probe:
            findings.errors.append(f"rank {place.rank} on {place.host}: torch: {probe['error']}")
        elif probe["gpus"]:
            sharing[place.host, probe["identity"]].append(place.rank)
    rows = []
    for place in places:
        probe = probes[place.rank]
        device = probe.get("device", "?")
        if others := [str(rank) for rank in sharing[place.host, probe.get("identity", "")] if rank != place.rank]:
            device += f", shared with rank {' '.join(others)}"
        if "memory" in probe:
            device += f" ({probe['name']}, {probe['memory'] / 2**30:.0f} GiB)"
        visible = "all" if place.visible is None else place.visible or "none"
        rows.append([place.rank, place.host, place.local_rank, ranges(place.cpus), place.threads, visible, device])
    for host in dict.fromkeys(place.host for place in places):
        here = [place for place in places if place.host == host]
        _gpus(host, here, [probes[place.rank] for place in here], findings)
    return table(["rank", "host", "local rank", "CPUs", "threads", "visible GPUs", "device"], rows)


def _gpus(host: str, here: Sequence[Place], probes: Sequence[dict[str, Any]], findings: Findings) -> None:
    """Whether the ranks of one host use its GPUs well."""
    used = {probe["identity"] for probe in probes if probe.get("gpus") and "identity" in probe}
    if used and len(used) < len(here):
        findings.warnings.append(
            f"{host}: {len(here)} ranks share {len(used)} GPU{'s' * (len(used) > 1)}: right where a network does not "
            "fill one, else start fewer ranks"
        )
    idle = max((probe.get("gpus", 0) for probe in probes), default=0) - len(used)
    if used and idle > 0:
        findings.warnings.append(f"{host}: {idle} of {idle + len(used)} GPUs idle; start a rank for each")
    for place, probe in zip(here, probes, strict=True):
        if probe.get("gpus") == 0 and place.visible:
            findings.warnings.append(
                f"{host}: GPUs {place.visible} are given, but torch (built for {probe['built']}) sees none: "
                "trials train on the CPU"
            )
            return
