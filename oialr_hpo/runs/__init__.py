"""What a search leaves behind: trials, the files that tell of them, and what is derived from both."""

from typing import TYPE_CHECKING, Any

from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.trial import Role, State, Trial

if TYPE_CHECKING:
    from oialr_hpo.runs.directory import RunDirectory

__all__ = ["Role", "RunDirectory", "RunDirectoryError", "State", "Trial"]


def __getattr__(name: str) -> Any:
    if name == "RunDirectory":  # here, since processes that train need none
        from oialr_hpo.runs.directory import RunDirectory

        return RunDirectory
    raise AttributeError(f"module {__name__} has no attribute {name}")
