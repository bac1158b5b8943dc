"""What a search leaves behind: trials, the files that tell of them, and what is derived from both."""

from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.trial import Role, State, Trial

__all__ = ["Role", "RunDirectory", "RunDirectoryError", "State", "Trial"]
