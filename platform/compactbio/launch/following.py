"""What the journals of a run say, sent to MLflow, published as gauges and shown to a person while the run lasts."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from compactbio.launch.gauges import RayGauges
from compactbio.launch.progress import Display, say
from compactbio.launch.stopping import StoppedError
from compactbio.storage.repeating import Repeating
from compactbio.tracking.journal import Follower
from compactbio.tracking.prometheus import GaugeSink
from compactbio.tracking.store_uri import TrackingError

if TYPE_CHECKING:
    from compactbio.tracking.mlflow_store import MlflowStore

_DISPLAY_EVERY_SECONDS = 0.5
_TRACK_EVERY_SECONDS = 5.0
_PUBLISH_EVERY_SECONDS = 2.0
_PATIENCE_SECONDS = 5.0  # with MLflow, when somebody is about to kill this process


def open_store(uri: str, experiment: str, storage: Path, *, live: bool = True) -> MlflowStore:
    """The MLflow store, whose imports take seconds."""
    from compactbio.tracking.mlflow_store import MlflowStore

    return MlflowStore(uri, experiment, storage / "mlartifacts", live=live)


class Following:
    """Until the end of the block tracks and publishes what the journals say, and shows it on a display, each in a
    thread."""

    def __init__(
        self,
        folder: Path,
        store: MlflowStore,
        console: Console,
        display: Display | None,
        *,
        recipe: str,
        training_stages: Collection[str],
    ) -> None:
        self._shown, self._sent, self._published = Follower(folder), Follower(folder), Follower(folder)
        self._store = store
        self._gauges = RayGauges()
        self._sink = GaugeSink(recipe, folder, training_stages, self._gauges.publish)
        self._console = console
        self._display = display
        self.complete = True
        """Whether MLflow has everything so far."""

    def __enter__(self) -> Following:
        self._stack = ExitStack()
        if self._display is not None:
            display = self._stack.enter_context(self._display)
            showing = Repeating(lambda: display.catch_up(self._shown), _DISPLAY_EVERY_SECONDS)
            self._stack.callback(showing.close)
        publishing = Repeating(self._publish, _PUBLISH_EVERY_SECONDS)
        self._stack.callback(publishing.close)
        self._tracking = Repeating(self._track, _TRACK_EVERY_SECONDS)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        stopped = kind is not None and issubclass(kind, StoppedError)
        self._tracking.close(_PATIENCE_SECONDS if stopped else None)
        self._stack.close()
        if kind is not None and self.complete:
            self._store.end_open_runs("KILLED" if stopped else "FAILED")

    def _publish(self) -> None:
        self._sink.catch_up(self._published)
        self._gauges.send()

    def _track(self) -> None:
        try:
            self._store.catch_up(self._sent)
        except TrackingError as error:
            if self.complete:
                say(self._console, f"MLflow does not take the metrics, which wait in the journals: {error}")
            self.complete = False
        else:
            if not self.complete:
                say(self._console, "MLflow takes the metrics again")
            self.complete = True
