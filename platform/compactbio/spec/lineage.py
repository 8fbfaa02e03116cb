"""What the runs of a job are tagged with: where a model comes from, by names that hold outside the job."""

from __future__ import annotations

from compactbio.spec.job import STAGE_PREFIX, Distill, JobSpec, Pretrain, start_field


def model_name(spec: JobSpec, reference: str) -> str:
    """The name of a model that a stage names: its entry in the model registry where this job makes it, else what the
    spec calls it."""
    if reference.startswith(STAGE_PREFIX):
        return registered_name(spec, reference.removeprefix(STAGE_PREFIX))
    if reference == "teacher":
        assert spec.teacher is not None
        return spec.teacher
    return reference


def registered_name(spec: JobSpec, stage: str) -> str:
    """What the model of a training stage is called in the model registry."""
    return f"{spec.name}-{stage}"


def stage_tags(spec: JobSpec, stage: str) -> dict[str, str]:
    """Stage, kind, seed; of a training stage also its student, what that starts from, and its teachers.

    All students of a teacher are the runs, and model versions, whose tag `teacher` is its name.
    """
    section = spec.stages[stage]
    tags = {"stage": stage, "kind": section.kind, "seed": str(spec.seed)}
    if isinstance(section, Pretrain | Distill):
        start = section.models()[start_field(section)]
        tags |= {"student": registered_name(spec, stage), "starts_from": model_name(spec, start)}
    if isinstance(section, Distill):
        tags["teacher"] = model_name(spec, section.teacher)
        for number, other in enumerate(section.co_teachers):
            tags[f"co_teacher_{number}"] = model_name(spec, other.model)
    return tags
