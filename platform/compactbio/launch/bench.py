"""How fast a job's training step is on this machine: one worker, without Ray."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from compactbio.data.build import build_store
from compactbio.launch import environment, preflight
from compactbio.models.load import load_tokenizer, quiet_transformers
from compactbio.spec.base import SpecError
from compactbio.spec.job import STAGE_PREFIX, JobSpec
from compactbio.storage.copies import Storage
from compactbio.training.alone import profile_alone
from compactbio.training.profile import StepProfile
from compactbio.training.requests import StageRequest

_MIB = 1024**2


def bench(spec: JobSpec, name: str | None, num_steps: int) -> Iterator[str]:
    """Lines of figures about a training stage of the job: the first one, unless it is named.

    Raises SpecError where there is no such stage, or where it starts from a model that another stage has yet to make.
    """
    name = name or next(iter(spec.training_stages()), None)
    if name not in spec.training_stages():
        raise SpecError.at(
            "--stage", f"'{name}' is not one of the training stages: {', '.join(spec.training_stages())}"
        )
    os.environ.update(environment.for_workers(use_gpu=spec.cluster.use_gpu, online=spec.online))
    quiet_transformers()
    alone = spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"num_workers": 1})})
    preflight.check(alone)
    section = spec.training_stages()[name]
    models = {}
    for field, model in section.models().items():
        if model.startswith(STAGE_PREFIX):
            raise SpecError.at(
                f"stages.{name}.{field}",
                f"'{model}' is not made yet; name the folder of a model in its place with --set",
            )
        models[field] = preflight.resolve_model(spec, model, f"stages.{name}.{field}", {})
    with tempfile.TemporaryDirectory() as scratch:
        request = StageRequest(alone, name, models, _store(spec), Path(scratch), {}, 1)
        yield from _lines(request, profile_alone(request, num_steps))


def _store(spec: JobSpec) -> Path:
    if spec.store is not None:
        return Path(spec.store).expanduser().resolve()
    assert spec.corpus is not None
    tokenizer = load_tokenizer(*spec.tokenizer_source(), online=spec.online)
    return build_store(spec.corpus, tokenizer, Storage.of(spec.storage).folder / "stores", online=spec.online)


def _lines(request: StageRequest, found: StepProfile) -> Iterator[str]:
    rows = request.section.training.global_batch
    yield f"{request.spec.name}, {request.stage}: {found.num_steps} steps of {rows} rows, one worker without Ray"
    yield f"{found.tokens_per_second:,.0f} tokens a second, {found.seconds / found.num_steps:.3f} s a step"
    yield (
        f"{found.utilisation:.1%} model FLOPs utilisation: {found.flops / found.seconds / 1e9:,.1f} of "
        f"{found.peak_flops / 1e9:,.1f} GFLOP/s, those of a large matrix product here"
    )
    yield f"{found.peak_bytes / _MIB:,.0f} MiB at the highest, libraries included"
    for part, share in sorted(found.shares.items(), key=lambda item: -item[1]):
        yield f"  {share:6.1%}  {part}"
