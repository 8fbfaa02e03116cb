"""Students: from a teacher's layers, or from a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import transformers
from transformers import PreTrainedConfig

from compactbio.models.architecture import architecture, layer_of, rename_layer
from compactbio.spec.base import Problem, Section, SpecError
from compactbio.spec.job import Distill, Pretrain
from compactbio.spec.objective import Align, Attention, Compact, Embed, Hidden, LayerTerm
from compactbio.spec.students import FromCheckpoint, FromShape, FromTeacherLayers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def student_config(
    stage: Pretrain | Distill, start: PreTrainedConfig, place: str, vocabulary_size: int | None = None
) -> PreTrainedConfig:
    """The configuration of the stage's student, given that of the model it starts from.

    A student with random weights takes on `vocabulary_size`. Raises SpecError under `place` for layers that the start
    does not have, and for a shape that does not go together.
    """
    student = stage.student
    if isinstance(student, FromCheckpoint):
        return start
    config = copy.deepcopy(start)
    if isinstance(student, FromShape):
        return _reshaped(config, student, f"{place}.student", vocabulary_size)
    depth = start.num_hidden_layers
    if max(student.layers) >= depth:
        raise SpecError.at(
            f"{place}.student.layers",
            f"{list(student.layers)}: the model it starts from has {depth} layers, numbered 0 to {depth - 1}",
        )
    config.num_hidden_layers = len(student.layers)
    return config


def _reshaped(
    config: PreTrainedConfig, student: FromShape, place: str, vocabulary_size: int | None
) -> PreTrainedConfig:
    for name, size in student.shape().items():
        if not hasattr(config, name):
            raise SpecError.at(f"{place}.{name}", f"a model of type '{config.model_type}' has no such size")
        setattr(config, name, size)
    if config.hidden_size % config.num_attention_heads:
        raise SpecError.at(
            f"{place}.num_attention_heads",
            f"{config.num_attention_heads} heads do not divide a width of {config.hidden_size}",
        )
    if vocabulary_size is not None:
        config.vocab_size = vocabulary_size
    return config


def build_student(stage: Pretrain | Distill, start: PreTrainedModel, *, seed: int) -> PreTrainedModel:
    """The stage's student as it is before step one, in fp32; `start` is left as it is."""
    student = stage.student
    if isinstance(student, FromCheckpoint):
        return copy.deepcopy(start).train()
    assert isinstance(student, FromTeacherLayers)
    from transformers import AutoModelForMaskedLM

    config = student_config(stage, start.config, "stage")
    transformers.set_seed(seed)
    model = AutoModelForMaskedLM.from_config(config)
    weights = {}
    for name, tensor in start.state_dict().items():
        layer = layer_of(name)
        is_head = not name.startswith(start.base_model_prefix + ".")
        if layer is not None:
            for index, source in enumerate(student.layers):
                if source == layer:
                    weights[rename_layer(name, index)] = tensor
        elif student.copy_head or not is_head:
            weights[name] = tensor
    model.load_state_dict(weights, strict=student.copy_head)
    model.tie_weights()
    return model.train()


def random_student(config: PreTrainedConfig, *, seed: int) -> PreTrainedModel:
    """A student with new weights, in fp32."""
    from transformers import AutoModelForMaskedLM

    transformers.set_seed(seed)
    return AutoModelForMaskedLM.from_config(config).train()


def check_fit(stage: Distill, student: PreTrainedConfig, teacher: PreTrainedConfig, place: str) -> None:
    """Raises SpecError, with every reason, where the student cannot be compared with its teacher."""
    found = []
    for field, config in (("student", student), ("teacher", teacher)):
        try:
            architecture(config)
        except ValueError as error:
            found.append(Problem(f"{place}.{field}", str(error)))
    if student.vocab_size != teacher.vocab_size:
        found.append(
            Problem(
                f"{place}.student",
                f"its vocabulary has {student.vocab_size} entries, the teacher's {teacher.vocab_size}; "
                "student and teacher need the same tokenizer",
            )
        )
    for name, term in stage.objective.terms().items():
        found += _term_problems(term, student, teacher, f"{place}.objective.{name}")
    if found:
        raise SpecError(found)


def _term_problems(
    term: Section, student: PreTrainedConfig, teacher: PreTrainedConfig, place: str
) -> Iterator[Problem]:
    layer_map = getattr(term, "layer_map", None)
    if layer_map is not None:
        yield from _layer_map_problems(layer_map, student, teacher, place)
    states = isinstance(term, Align | Embed | Hidden | Compact | LayerTerm)
    projected = getattr(term, "projection", "none") != "none"
    if states and not projected and student.hidden_size != teacher.hidden_size:
        advice = "compares equal widths" if isinstance(term, Compact) else "needs a projection (projection: own)"
        yield Problem(
            place, f"the student is {student.hidden_size} wide, the teacher {teacher.hidden_size}; this term {advice}"
        )
    heads = student.num_attention_heads, teacher.num_attention_heads
    if isinstance(term, Attention | Compact | LayerTerm) and heads[0] != heads[1]:
        yield Problem(
            place,
            f"the student has {heads[0]} attention heads, the teacher {heads[1]}; attention is compared head by head",
        )


def _layer_map_problems(
    layer_map: tuple[int, ...], student: PreTrainedConfig, teacher: PreTrainedConfig, place: str
) -> Iterator[Problem]:
    if max(layer_map) >= teacher.num_hidden_layers:
        yield Problem(f"{place}.layer_map", f"{list(layer_map)}: the teacher has {teacher.num_hidden_layers} layers")
    if len(layer_map) != student.num_hidden_layers:
        yield Problem(
            f"{place}.layer_map", f"has {len(layer_map)} entries, the student {student.num_hidden_layers} layers"
        )
