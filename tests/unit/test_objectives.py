"""The losses against references written from the equations, and the invariance that everything rests on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForMaskedLM, BertConfig, PreTrainedModel

from compactbio.data.batches import Batch
from compactbio.models.forward import Outputs
from compactbio.objectives import losses
from compactbio.objectives.objective import Objective
from compactbio.spec import objective as spec
from compactbio.training.learner import StudentLearner, Teacher

V = 61
OBJECTIVE = spec.Objective.model_validate_json(
    '{"mlm": {"lambda": 1}, "output": {"lambda": 5, "temperature": 2}, "compact": {"lambda": 3, "layer_map": [1, 3]}}'
)


def bert(layers: int, dropout: float = 0.0) -> PreTrainedModel:
    torch.manual_seed(layers)
    config = BertConfig(
        vocab_size=V,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.3,
    )
    return AutoModelForMaskedLM.from_config(config)


def ragged(lengths: list[int], seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    real = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    scored = real & (torch.rand(real.shape, generator=draw) < 0.3)
    scored[0] = False  # a row without a masked token
    labels = torch.randint(5, V, (int(scored.sum()),), generator=draw)
    return Batch(torch.randint(5, V, real.shape, generator=draw) * real, real, scored, labels)


def part_of(batch: Batch, rows: list[int]) -> Batch:
    """Some rows as a micro-batch of its own, padded to the longest of them alone."""
    row_of_label = batch.scored.nonzero()[:, 0]
    width = int(batch.real[rows].sum(1).max())
    labels = torch.cat([batch.labels[row_of_label == row] for row in rows])
    return Batch(batch.input_ids[rows, :width], batch.real[rows, :width], batch.scored[rows, :width], labels)


def gradients(batch: Batch, layout: list[list[int]]) -> tuple[float, dict[str, Tensor]]:
    """Loss and summed gradients of a global batch that is spread over micro-batches."""
    student, teacher = bert(2).double(), bert(4).double()
    objective = Objective(OBJECTIVE, student.config)
    learner, targets = StudentLearner(student, objective).eval(), Teacher(teacher, objective)
    micro_batches = [part_of(batch, rows) for rows in layout]
    counts = torch.stack([objective.count(micro) for micro in micro_batches]).sum(0)
    loss = torch.zeros((), dtype=torch.float64)
    for micro in micro_batches:
        micro_loss = objective.loss(learner(micro, targets(micro)), counts)
        micro_loss.backward()
        loss += micro_loss.detach()
    return float(loss), {name: value.grad for name, value in student.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("lengths", [[9, 3, 12, 5, 7, 30, 4, 11], [6] * 8])
def test_loss_and_gradients_do_not_depend_on_the_spread_of_the_batch(lengths: list[int]) -> None:
    batch = ragged(lengths)
    whole, expected = gradients(batch, [list(range(8))])
    for layout in ([[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 5], [1, 2], [3, 7], [4, 6]], [[row] for row in range(8)]):
        loss, found = gradients(batch, layout)
        assert loss == pytest.approx(whole, rel=1e-9)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert torch.allclose(found[name], gradient, rtol=1e-7, atol=1e-10), name


def reference_kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("teacher_first", [True, False])
def test_output_kl_is_equation_2(teacher_first: bool) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, V, dtype=torch.float64), torch.randn(5, V, dtype=torch.float64)
    expected = 0.0
    for s, t in zip((student / 2).softmax(-1).tolist(), (teacher / 2).softmax(-1).tolist(), strict=True):
        expected += 4 * (reference_kl(t, s) if teacher_first else reference_kl(s, t))
    found = losses.output_kl_sum(student, teacher, temperature=2.0, teacher_first=teacher_first)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_mlm_is_equation_1() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(4, V, dtype=torch.float64), torch.tensor([3, 1, 60, 3])
    expected = -sum(
        math.log(row[label]) for row, label in zip(logits.softmax(-1).tolist(), labels.tolist(), strict=True)
    )
    assert float(losses.mlm_sum(logits, labels)) == pytest.approx(expected, rel=1e-9)


def test_compact_is_equation_8() -> None:
    batch = ragged([6, 3, 5])
    torch.manual_seed(0)
    hidden = [torch.randn(3, 6, 8, dtype=torch.float64) for _ in range(2)]
    scores = [torch.randn(3, 4, 6, 6, dtype=torch.float64) for _ in range(2)]
    lowest = torch.finfo(torch.float64).min
    attention = [score.masked_fill(~batch.real[:, None, None, :], lowest).log_softmax(-1) for score in scores]
    cosine = kl = 0.0
    for row in range(3):
        length = int(batch.real[row].sum())
        for query in range(length):
            s, t = hidden[0][row, query].tolist(), hidden[1][row, query].tolist()
            dot = sum(a * b for a, b in zip(s, t, strict=True))
            cosine += 1 - dot / math.sqrt(sum(a * a for a in s) * sum(b * b for b in t))
            for head in range(4):
                rows = [score[row, head, query, :length].softmax(-1).tolist() for score in scores]
                kl += reference_kl(rows[1], rows[0])
    assert float(losses.cosine_sum(*hidden, batch.real)) == pytest.approx(cosine, rel=1e-9)
    assert float(losses.attention_kl_sum(*attention, batch.real)) == pytest.approx(kl, rel=1e-9)


def test_counts_are_the_denominators_of_the_equations() -> None:
    batch = ragged([6, 3, 5])
    objective = Objective(OBJECTIVE, bert(2).config)
    scored = int(batch.scored.sum())
    assert objective.parts == ("mlm", "output", "compact.hidden", "compact.attention")
    assert objective.count(batch).tolist() == [scored, scored, 14, 14 * 4]
    assert objective.weights.tolist() == [1, 5, 3, 3]


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_it() -> None:
    section = OBJECTIVE.model_copy(update={"compact": spec.Compact.model_validate({"layer_map": (0, 1)}, strict=False)})
    objective = Objective(section, bert(2).config)
    learner, targets = StudentLearner(bert(2), objective).eval(), Teacher(bert(2), objective)
    batch = ragged([6, 3, 5])
    totals = dict(zip(objective.parts, learner(batch, targets(batch)).tolist(), strict=True))
    assert totals["mlm"] > 1
    for part in ("output", "compact.hidden", "compact.attention"):
        assert totals[part] == pytest.approx(0, abs=1e-4)


def test_a_batch_without_masked_tokens_gives_zero_not_nan() -> None:
    batch = ragged([6, 3])
    batch = Batch(batch.input_ids, batch.real, torch.zeros_like(batch.real), batch.labels[:0])
    objective = Objective(spec.Objective.model_validate({"mlm": {}}), bert(2).config)
    totals = StudentLearner(bert(2), objective)(batch, Outputs())
    assert float(objective.loss(totals, objective.count(batch))) == 0.0


def test_the_teacher_says_the_same_of_the_same_batch() -> None:
    objective = Objective(OBJECTIVE, bert(2).config)
    teacher = Teacher(bert(4, dropout=0.3).train(), objective)
    batch = ragged([6, 3, 5])
    first, second = teacher(batch), teacher(batch)
    assert first.logits is not None and second.logits is not None
    assert torch.equal(first.logits, second.logits)


class _Widest(TorchDispatchMode):
    """Records the most rows of any tensor as wide as the vocabulary that an operation makes."""

    rows = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(value, Tensor) and value.ndim > 1 and value.shape[-1] == V:
                self.rows = max(self.rows, value.numel() // V)
        return out


def test_the_vocabulary_is_scored_at_masked_positions_alone() -> None:
    batch = ragged([20, 17, 19, 18])
    student, teacher = bert(2), bert(4)
    objective = Objective(OBJECTIVE, student.config)
    learner, targets = StudentLearner(student, objective), Teacher(teacher, objective)
    widest = _Widest()
    with widest:
        objective.loss(learner(batch, targets(batch)), objective.count(batch)).backward()
    # backward makes the transposed gradient of the decoder's weight [D, V]: D = 32 rows
    assert widest.rows <= max(int(batch.scored.sum()), 32) < int(batch.real.sum())
