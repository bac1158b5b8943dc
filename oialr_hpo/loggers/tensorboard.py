"""TensorBoard: `tensorboard --logdir RUN/tensorboard`, by its own writer, which needs no torch."""

import time
from collections.abc import Mapping
from typing import Any

from oialr_hpo.loggers._logger import Logger, name, numbers, results
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State, Trial


class TensorBoard(Logger):
    """A directory for each trial with its metrics by epoch, and a line of its HPARAMS page: settings and results.

    Where a trial goes on, its writer tells TensorBoard to drop what earlier files have of later epochs.
    """

    needs = ("tensorboard",)

    def __init__(self, run: RunDirectory):
        super().__init__(run)
        self._writers: dict[int, Any] = {}

    def trial_begins(self, trial: Trial, told: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.plugins.hparams import summary_v2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        writer = EventFileWriter(str(self.path / "tensorboard" / name(trial)))
        self._writers[trial.number] = writer
        writer.add_event(Event(step=int(told) + 1, session_log=SessionLog(status=SessionLog.START)))
        if not told:
            settings = {key: _plain(value) for key, value in trial.settings.items()} | {"role": trial.role.value}
            self._add(trial, 0, summary_v2.hparams_pb(settings, name(trial), trial.started))

    def epoch(self, trial: Trial, record: Mapping[str, Any]) -> None:
        self._add_numbers(trial, record["epoch"], numbers(record))

    def trial_ends(self, trial: Trial) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import api_pb2, metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

        last = trial.epochs[-1]["epoch"] if trial.epochs else 0
        self._add_numbers(trial, last, results(trial, self.experiment))
        if trial.finished:
            well = trial.state in (State.COMPLETE, State.PAUSED, State.PRUNED)
            status = api_pb2.STATUS_SUCCESS if well else api_pb2.STATUS_FAILURE
            end = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=time.time()))
            about, tag = metadata.create_summary_metadata(end), metadata.SESSION_END_INFO_TAG
            value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
            self._add(trial, last, Summary(value=[value]))
        self._writers.pop(trial.number).close()

    def search_ends(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _add_numbers(self, trial: Trial, epoch: float, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=key, simple_value=value) for key, value in values.items()]
        self._add(trial, epoch, Summary(value=scalars))

    def _add(self, trial: Trial, epoch: float, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        writer = self._writers[trial.number]
        writer.add_event(Event(wall_time=time.time(), step=int(epoch), summary=summary))
        writer.flush()


def _plain(value: Any) -> bool | float | str:
    return value if isinstance(value, (bool, int, float)) else str(value)
