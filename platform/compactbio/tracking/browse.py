"""Reading MLflow: which runs there are, what they came to, and how they went."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from compactbio.spec.base import SpecError
from compactbio.spec.secrets import without_password

Points = list[tuple[int, float]]
_MOST_CHILDREN = 1000
_WHOLE = f"tags.`{MLFLOW_PARENT_RUN_ID}` IS NULL"


@dataclass(frozen=True)
class Found:
    """A tracked run: a job, a sweep, or a part of one."""

    run_id: str
    name: str
    status: str
    started: float
    """Seconds since 1970."""

    seconds: float | None
    """How long it took; None where it has not ended."""

    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    """The last value of each."""


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    version: str
    aliases: tuple[str, ...]
    tags: dict[str, str]


class Browser:
    """The runs and models of one store."""

    def __init__(self, uri: str) -> None:
        """Raises SpecError where the store does not answer."""
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        try:
            self._client = MlflowClient(tracking_uri=uri)
            self._experiments = [each.experiment_id for each in self._client.search_experiments()]
        except Exception as error:  # whatever the client, its driver or a server says
            raise SpecError.at(
                "--storage", without_password(f"MLflow cannot be read: {str(error).splitlines()[0]}")
            ) from None

    def jobs(self, *, recipe: str | None, tags: dict[str, str], scores: list[str], most: int) -> list[Found]:
        """The newest jobs and sweeps of a recipe, with these tags, whose metrics fulfil conditions like `NAME >= 0.5`.

        A tag `kind` asks for parts of jobs, such as `distill`. Raises SpecError for a condition that is none.
        """
        wanted = {"recipe": recipe, **tags} if recipe is not None else tags
        conditions = [f"tags.`{name}` = '{value}'" for name, value in wanted.items()]
        conditions += [_condition(score) for score in scores]
        conditions += [] if "kind" in wanted else [_WHOLE]
        return self._search(" and ".join(conditions), most)

    def job(self, name: str) -> Found:
        """The job or sweep of this name, or of one that begins with it. Raises SpecError unless there is one."""
        found = self._search(f"{_WHOLE} and attributes.run_name LIKE '{name}%'", _MOST_CHILDREN)
        exact = [run for run in found if run.name == name]
        if len(found) != 1 and len(exact) != 1:
            what = f"there are {len(found)}: {', '.join(run.name for run in found[:5])}" if found else "there is none"
            raise SpecError.at("RUN", f"'{name}' has to name one job, {what}; see: compactbio runs list")
        return (exact or found)[0]

    def children(self, run: Found) -> list[Found]:
        """The parts of a run, in the order of their start."""
        parts = self._search(f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.run_id}'", _MOST_CHILDREN)
        return sorted(parts, key=lambda part: part.started)

    def curve(self, run: Found, metric: str) -> Points:
        """Steps and values of a metric, in order."""
        history = self._client.get_metric_history(run.run_id, metric)
        return sorted((point.step, point.value) for point in history)

    def versions(self, tags: dict[str, str]) -> list[Version]:
        """The versions of registered models that have these tags."""
        condition = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        aliases = {model.name: model.aliases for model in self._client.search_registered_models()}
        return [
            Version(
                found.name,
                str(found.version),
                tuple(sorted(alias for alias, at in aliases[found.name].items() if str(at) == str(found.version))),
                found.tags,
            )
            for found in self._client.search_model_versions(condition)
        ]

    def promote(self, name: str, version: str, alias: str) -> None:
        """Gives an alias to a version of a model, and takes it from any other. Raises SpecError where there is none."""
        try:
            self._client.get_model_version(name, version)
        except MlflowException:
            raise SpecError.at("MODEL", f"there is no version {version} of '{name}'") from None
        self._client.set_registered_model_alias(name, alias, version)

    def _search(self, condition: str, most: int) -> list[Found]:
        try:
            runs = self._client.search_runs(
                self._experiments, condition, max_results=most, order_by=["attributes.start_time DESC"]
            )
        except MlflowException as error:
            raise SpecError.at("--score", str(error).splitlines()[0]) from None
        return [_found(run) for run in runs]


def _condition(score: str) -> str:
    """`NAME >= VALUE` in MLflow's language."""
    for sign in (">=", "<=", "!=", "=", ">", "<"):
        name, found, value = score.partition(sign)
        if found:
            try:
                return f"metrics.`{name.strip()}` {sign} {float(value)}"
            except ValueError:
                break
    raise SpecError.at("--score", f"'{score}' is not of the form NAME>=NUMBER")


def _found(run: Run) -> Found:
    info = run.info
    assert info.start_time is not None
    return Found(
        run_id=info.run_id,
        name=info.run_name or info.run_id,
        status=info.status,
        started=info.start_time / 1000,
        seconds=(info.end_time - info.start_time) / 1000 if info.end_time else None,
        tags={name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")},
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )
