"""Students: from a teacher's layers, or from a checkpoint."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import transformers
from transformers import PreTrainedConfig

from compactbio.models.architecture import architecture, layer_of, rename_layer
from compactbio.spec.base import Problem, SpecError
from compactbio.spec.job import Distill, Pretrain
from compactbio.spec.students import FromTeacherLayers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def student_config(stage: Pretrain | Distill, start: PreTrainedConfig, place: str) -> PreTrainedConfig:
    """The configuration of the stage's student, given that of the model it starts from.

    Raises SpecError under `place` for layers that the start does not have.
    """
    student = stage.student
    if not isinstance(student, FromTeacherLayers):
        return start
    depth = start.num_hidden_layers
    if max(student.layers) >= depth:
        raise SpecError.at(
            f"{place}.student.layers",
            f"{list(student.layers)}: the model it starts from has {depth} layers, numbered 0 to {depth - 1}",
        )
    config = copy.deepcopy(start)
    config.num_hidden_layers = len(student.layers)
    return config


def build_student(stage: Pretrain | Distill, start: PreTrainedModel, *, seed: int) -> PreTrainedModel:
    """The stage's student as it is before step one, in fp32; `start` is left as it is."""
    student = stage.student
    if not isinstance(student, FromTeacherLayers):
        return copy.deepcopy(start).train()
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
    if stage.objective.compact is not None:
        found += _compact_problems(stage.objective.compact.layer_map, student, teacher, f"{place}.objective.compact")
    if found:
        raise SpecError(found)


def _compact_problems(
    layer_map: tuple[int, ...], student: PreTrainedConfig, teacher: PreTrainedConfig, place: str
) -> list[Problem]:
    found = []
    if max(layer_map) >= teacher.num_hidden_layers:
        found.append(
            Problem(f"{place}.layer_map", f"{list(layer_map)}: the teacher has {teacher.num_hidden_layers} layers")
        )
    if len(layer_map) != student.num_hidden_layers:
        found.append(
            Problem(
                f"{place}.layer_map", f"has {len(layer_map)} entries, the student {student.num_hidden_layers} layers"
            )
        )
    if student.hidden_size != teacher.hidden_size:
        found.append(
            Problem(
                place,
                f"the student is {student.hidden_size} wide, the teacher {teacher.hidden_size}; "
                "this term compares equal widths and has no projection",
            )
        )
    if student.num_attention_heads != teacher.num_attention_heads:
        found.append(
            Problem(
                place,
                f"the student has {student.num_attention_heads} attention heads, the teacher "
                f"{teacher.num_attention_heads}; attention is compared head by head",
            )
        )
    return found
