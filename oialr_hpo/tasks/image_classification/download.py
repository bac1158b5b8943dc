"""CIFAR's official archives, downloaded by torchvision."""

import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from oialr_hpo.tasks.cache import locked
from oialr_hpo.tasks.image_classification.cifar import ARCHIVES
from oialr_hpo.tasks.image_classification.layouts import find_source
from oialr_hpo.tasks.task import DataError

DOWNLOAD_SECONDS = 600
log = logging.getLogger(__name__)


def download(dataset: str, data_dir: Path | None, cache: Path) -> None:
    """Let torchvision download the official archive into the cache, once for all processes.

    Raises:
        DataError: there is no network; the message says what to put where.
    """
    archive = ARCHIVES[dataset]
    failure = cache / f"{dataset}.download-failed"
    waiting_since = time.time()
    with locked(cache):
        if find_source(dataset, "train", cache) and find_source(dataset, "test", cache):
            return
        if failure.exists() and failure.stat().st_mtime >= waiting_since:
            raise DataError(failure.read_text())
        program = (
            "import socket, sys, torchvision; socket.setdefaulttimeout(20); "
            f"torchvision.datasets.{archive.torchvision}(sys.argv[1], download=True)"
        )
        log.info("downloading %s into %s", dataset, cache)
        shutil.rmtree(partial_download := cache / "partial-download", ignore_errors=True)
        try:
            partial_download.mkdir()
            subprocess.run(
                [sys.executable, "-c", program, str(partial_download)],
                check=True,
                capture_output=True,
                text=True,
                timeout=DOWNLOAD_SECONDS,
            )
            os.replace(partial_download / archive.folder, cache / archive.folder)
        except (OSError, subprocess.SubprocessError) as error:
            lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            message = (
                f"{dataset} is neither in {data_dir or cache} nor could it be downloaded ({lines[-1][:50]}); put there "
                f"train/<class>/*.png and test/<class>/*.png, or {archive.tar} from www.cs.toronto.edu/~kriz/cifar.html"
            )
            failure.write_text(message)
            raise DataError(message) from None
        finally:
            shutil.rmtree(partial_download, ignore_errors=True)
