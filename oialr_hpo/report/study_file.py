"""A search as a file that optuna-dashboard opens."""

from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from oialr_hpo.report.study import derive
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError

NAMES_RUN = "oialr_hpo run directory"  # the user attribute that marks a study as derived from one


def write(run: RunDirectory, path: Path) -> str:
    """Write a search as a study into a file that `optuna-dashboard` opens; an earlier one of the same run is replaced.

    Args:
        run: the search.
        path: an SQLite file (`.db`, `.sqlite3`) or a journal of Optuna (`.log`, `.journal`).

    Returns:
        the name of the study, which is that of the run directory.

    Raises:
        RunDirectoryError: the file cannot be written, is no storage of Optuna, or has a study of that name from
            elsewhere.
    """
    name = run.name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        storage = _storage(path)
        if name in optuna.get_all_study_names(storage):
            found = optuna.load_study(study_name=name, storage=storage)
            if found.user_attrs.get(NAMES_RUN) != str(run.path.resolve()):
                raise RunDirectoryError(f"{path} already has another study {name}; choose another file for --optuna")
            optuna.delete_study(study_name=name, storage=storage)
        study = derive(run.trials(), run.experiment, storage=storage, name=name)
        study.set_user_attr(NAMES_RUN, str(run.path.resolve()))
        study.set_user_attr("command", run.environment["command"])
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise RunDirectoryError(f"{path} cannot be written as an Optuna study: {reason}; choose another file") from None
    return name


def _storage(path: Path) -> BaseStorage:
    if path.suffix in (".db", ".sqlite", ".sqlite3"):
        from sqlalchemy.engine import URL, make_url
        from sqlalchemy.exc import DBAPIError

        url = URL.create("sqlite", database=str(path)).render_as_string()
        if make_url(url).database != str(path):
            raise ValueError("this version of SQLAlchemy cannot name the path")
        try:
            return RDBStorage(url)
        except DBAPIError as error:
            raise ValueError(str(error.orig)) from None
    if path.suffix in (".log", ".journal"):
        if path.exists() and not _is_journal(path):
            raise ValueError("the file is something else")
        return JournalStorage(JournalFileBackend(str(path)))
    raise ValueError(f"the ending {path.suffix!r} is neither .db (SQLite) nor .log (a journal)")


def _is_journal(path: Path) -> bool:
    """Whether a file begins as Optuna's journals do."""
    with open(path, "rb") as file:
        first = file.readline()
    return first.startswith(b'{"op_code"') and first.endswith(b"\n")
