"""Filling MLflow from the journals of a run."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from compactbio.spec.base import SpecError
from compactbio.spec.secrets import without_password
from compactbio.tracking.journal import Follower
from compactbio.tracking.store_uri import TrackingError

_METRICS_A_CALL = 1000  # limits of the tracking server's log-batch call
_PARAMS_A_CALL = 100
_LONGEST_PARAM = 6000
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens it on runs, not on traces
CANDIDATE = "candidate"
"""The alias of a registered model's newest version."""
JOURNAL_TAG = "compactbio.journal"
"""The tag by which a run is found again: its folder, and below it that of the part."""


class MlflowStore:
    """An experiment in MLflow that follows the journals below a folder.

    The journal of the folder itself is the parent run; each one below is a child of the nearest above it.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path, *, live: bool = True) -> None:
        """`artifacts` is where a new experiment in a local store keeps its files; a server has a place of its own. A
        run that goes on is `live`: one that is found has the status of a running one again.

        Raises SpecError where the store can never be used. A server that does not answer yet may do so later.
        """
        self._uri = uri
        self._live = live
        self._experiment = experiment
        self._location = artifacts.resolve().as_uri() if uri.startswith("sqlite:") else None
        self._experiment_id: str | None = None
        self._runs: dict[Path, str] = {}
        self._names: dict[Path, str] = {}
        self._open: set[str] = set()
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it says is in the TrackingError
        try:
            self._client = MlflowClient(tracking_uri=uri)
            if not uri.startswith(("http://", "https://")):
                self._connect()
        except (MlflowException, OSError) as error:
            reason = without_password(str(error).splitlines()[0])
            raise SpecError.at("tracking.uri", f"MLflow at {without_password(uri)} cannot be used: {reason}") from None

    def catch_up(self, follower: Follower) -> None:
        """Sends what the journals hold beyond what was sent before. Raises TrackingError; what failed comes again.

        What is sent twice is in the store once: a metric with the same time and step is the same row.
        """
        try:
            for folder, events in follower.new_events():
                if folder not in self._runs:
                    self._start(folder, events[0])
                self._send(self._runs[folder], folder, events)
        except Exception as error:  # whatever the client, its driver or a server says: a run does not fail of it
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrackingError(without_password(reason)) from error

    def run_id(self, folder: Path) -> str:
        """The MLflow run of the journal in `folder`."""
        return self._runs[folder]

    def end_open_runs(self, status: Literal["FAILED", "KILLED"]) -> None:
        """Marks every run that has not ended; as far as the store answers."""
        with suppress(Exception):
            for run_id in sorted(self._open):
                self._client.set_terminated(run_id, status=status)
                self._open.discard(run_id)

    def _connect(self) -> str:
        if self._experiment_id is None:
            found = self._client.get_experiment_by_name(self._experiment)
            self._experiment_id = (
                found.experiment_id
                if found
                else self._client.create_experiment(self._experiment, self._location, tags=_EXPERIMENT_TAGS)
            )
        return self._experiment_id

    def _start(self, folder: Path, first: Mapping[str, Any]) -> None:
        """Creates the run of a journal, or finds the one that an earlier driver created."""
        assert first["kind"] == "start", f"the journal in {folder} does not begin with a start event"
        experiment = self._connect()
        above = next((other for other in folder.parents if other in self._runs), None)
        name = folder.name if above is None else f"{self._names[above]}/{folder.relative_to(above)}"
        found = self._client.search_runs([experiment], f"tags.`{JOURNAL_TAG}` = '{name}'", max_results=1)
        if found:
            run_id = found[0].info.run_id
            if self._live:
                self._client.update_run(run_id, status="RUNNING")
        else:
            tags = {**first["tags"], JOURNAL_TAG: name}
            if above is not None:
                tags[MLFLOW_PARENT_RUN_ID] = self._runs[above]
            run_id = self._client.create_run(
                experiment, start_time=_milliseconds(first), run_name=first["name"], tags=tags
            ).info.run_id
        self._runs[folder], self._names[folder] = run_id, name
        self._open.add(run_id)

    def _send(self, run_id: str, folder: Path, events: list[dict[str, Any]]) -> None:
        points = [
            Metric(name, value, _milliseconds(event), event["step"])
            for event in events
            if event["kind"] == "metrics"
            for name, value in event["values"].items()
        ]
        for start in range(0, len(points), _METRICS_A_CALL):
            self._client.log_batch(run_id, metrics=points[start : start + _METRICS_A_CALL])
        for event in events:
            match event["kind"]:
                case "tags":
                    for tag, value in event["values"].items():
                        self._client.set_tag(run_id, tag, value)
                case "params":
                    self._send_params(run_id, event["values"])
                case "artifact":
                    self._send_artifact(run_id, _place(folder, event))
                case "model":
                    self._register(run_id, _place(folder, event), event["name"], event["tags"])
                case "end":
                    for name, value in event.get("tags", {}).items():
                        self._client.set_tag(run_id, name, value)
                    self._client.set_terminated(run_id, event["status"], end_time=_milliseconds(event))
                    self._open.discard(run_id)

    def _send_params(self, run_id: str, values: Mapping[str, Any]) -> None:
        params = [Param(name, str(value)[:_LONGEST_PARAM]) for name, value in values.items()]
        for start in range(0, len(params), _PARAMS_A_CALL):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_A_CALL])

    def _send_artifact(self, run_id: str, path: Path) -> None:
        if path.is_dir():
            self._client.log_artifacts(run_id, str(path), artifact_path=path.name)
        else:
            self._client.log_artifact(run_id, str(path))

    def _register(self, run_id: str, folder: Path, name: str, tags: Mapping[str, str]) -> None:
        """Logs an exported masked language model with its signature, as a new version of `name` in the registry, unless
        it is there from this run."""
        if self._client.search_model_versions(f"run_id = '{run_id}'"):
            return
        import mlflow.transformers  # brings torch: only where a model is registered
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        signature = ModelSignature(
            inputs=Schema([ColSpec(DataType.string)]), outputs=Schema([ColSpec(DataType.string)])
        )
        components = {
            "model": AutoModelForMaskedLM.from_pretrained(folder, local_files_only=True),
            "tokenizer": AutoTokenizer.from_pretrained(folder, local_files_only=True),
        }
        mlflow.set_tracking_uri(self._uri)
        with mlflow.start_run(run_id=run_id):
            info = mlflow.transformers.log_model(
                transformers_model=components,
                name="model",
                task="fill-mask",
                signature=signature,
                pip_requirements=["torch", "transformers"],
            )
        with suppress(MlflowException):  # it is there already
            self._client.create_registered_model(name)
        version = self._client.create_model_version(
            name,
            info.model_uri,
            run_id,
            tags=dict(tags),
            description=(folder / "README.md").read_text(encoding="utf-8"),
            model_id=info.model_id,
            await_creation_for=0,
        )
        self._client.set_registered_model_alias(name, CANDIDATE, version.version)


def _place(folder: Path, event: Mapping[str, Any]) -> Path:
    """Where what an event in the journal of `folder` names lies."""
    return Path(os.path.normpath(folder / event["path"]))


def _milliseconds(event: Mapping[str, Any]) -> int:
    return round(event["time"] * 1000)
