"""Propulate's islands over the ranks of MPI."""

from dataclasses import replace

from oialr_hpo.engines.plan import Plan, absolute
from oialr_hpo.engines.worker import threads_per_worker
from oialr_hpo.runs.directory import RunDirectory


class Ranks:
    """Every rank is a worker; see `oialr_hpo.engines.mpi_search`."""

    over_mpi = True
    unasked = True
    sampler = "evolution"

    def run(self, plan: Plan) -> RunDirectory:
        from oialr_hpo.engines import mpi, mpi_search

        data_dir, stage_dir = mpi.on_first_rank(lambda: (absolute(plan.data_dir), absolute(plan.stage_dir)))
        plan = replace(plan, data_dir=data_dir, stage_dir=stage_dir)
        checked = mpi.on_first_rank(plan.check)
        staged = mpi.on_every_node(lambda: plan.stage(checked)) if stage_dir else data_dir
        threads = threads_per_worker(mpi.local_rank()[1])
        search = mpi.on_first_rank(lambda: plan.prepare(checked, staged, threads))
        try:
            mpi_search.run(search, plan.stop, plan.rehearsed)
        except BaseException:
            mpi.abort_all("the search itself failed")
        return search.run
