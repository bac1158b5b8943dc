"""Propulate's islands over the ranks of MPI."""

from pathlib import Path

from oialr_hpo.engines.plan import Plan, absolute
from oialr_hpo.engines.worker import threads_per_worker
from oialr_hpo.experiment import Experiment
from oialr_hpo.runs.directory import RunDirectory


class Ranks:
    """Every rank is a worker; see `oialr_hpo.engines.mpi_search`."""

    over_mpi = True
    unasked = True
    sampler = "evolution"

    def run(self, plan: Plan) -> RunDirectory:
        from oialr_hpo.engines import mpi, mpi_search

        def check() -> tuple[Experiment, Path | None, Path | None]:
            plan.data_dir, plan.stage_dir = absolute(plan.data_dir), absolute(plan.stage_dir)
            return plan.check(), plan.data_dir, plan.stage_dir

        checked, plan.data_dir, plan.stage_dir = mpi.on_first_rank(check)
        place, sharing = mpi.local_rank()
        threads = threads_per_worker(sharing)
        staged = mpi.on_every_node(lambda: plan.stage(checked)) if plan.stage_dir else plan.data_dir
        search = mpi.on_first_rank(lambda: plan.prepare(checked, staged, threads))
        try:
            mpi_search.run(search, plan.stop, place, threads, plan.rehearsed)
        except BaseException:
            mpi.abort_all("the search itself failed")
        return search.run
