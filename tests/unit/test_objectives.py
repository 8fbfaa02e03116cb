"""The losses against references written from the equations, and the invariance that everything rests on."""

from __future__ import annotations

import json
import math
import weakref

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
from compactbio.training.learner import Averaging, Ensemble, StudentLearner, Teacher

V = 61
OBJECTIVE = spec.Objective.model_validate_json(
    '{"mlm": {"lambda": 1}, "output": {"lambda": 5, "temperature": 2}, "compact": {"lambda": 3, "layer_map": [1, 3]}}'
)


EVERYTHING = spec.Objective.model_validate_json(
    """{"mlm": {}, "output": {"temperature": 2, "positions": "real"}, "soft_labels": {"temperature": 3}, "logits": {},
    "align": {"projection": "own"}, "compact": {"layer_map": [1, 3], "reduction": "entries", "layer_lambdas": [1, 0.5]},
    "layer": {"layer_map": [0, 2], "attention": "scores"}, "embed": {"projection": "shared"},
    "hidden": {"loss": "mse", "layer_map": [1, 2], "positions": "masked", "projection": "own"},
    "attention": {"loss": "mse", "layer_map": [0, 1], "positions": "masked"}}"""
)


def bert(layers: int, dropout: float = 0.0, width: int = 32) -> PreTrainedModel:
    torch.manual_seed(layers)
    config = BertConfig(
        vocab_size=V,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.3,
    )
    return AutoModelForMaskedLM.from_config(config)


def without_dropout(learner: StudentLearner) -> StudentLearner:
    for module in learner.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return learner.train()


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
    objective = Objective(EVERYTHING, student.config, teacher.config).double()
    learner, targets = without_dropout(StudentLearner(student, objective)), Teacher(teacher, objective)
    micro_batches = [part_of(batch, rows) for rows in layout]
    counts = torch.stack([objective.count(micro) for micro in micro_batches]).sum(0)
    loss = torch.zeros((), dtype=torch.float64)
    for micro in micro_batches:
        micro_loss = objective.loss(learner(micro, targets(micro)), counts)
        micro_loss.backward()
        loss += micro_loss.detach()
    return float(loss), {name: value.grad for name, value in learner.named_parameters() if value.grad is not None}


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


class Reference:
    """The equations, entry by entry in Python, over what plain transformers models return in float64."""

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel, batch: Batch) -> None:
        self.batch = batch
        self.sides = []
        for model in (student, teacher):
            model.set_attn_implementation("eager")
            found = model.eval()(
                input_ids=batch.input_ids,
                attention_mask=batch.real.long(),
                output_hidden_states=True,
                output_attentions=True,
            )
            self.sides.append(found)
        self.rows, self.width = batch.real.shape

    def at(self, positions: str) -> list[tuple[int, int]]:
        mask = {"masked": self.batch.scored, "real": self.batch.real, "all": torch.ones_like(self.batch.real)}
        return [(row, column) for row, column in mask[positions].nonzero().tolist()]

    def logits(self, row: int, column: int, temperature: float = 1.0) -> tuple[list[float], list[float]]:
        s, t = ((side.logits[row, column] / temperature).softmax(-1).tolist() for side in self.sides)
        return s, t

    def hidden(self, s: int, t: int, row: int, column: int) -> tuple[list[float], list[float]]:
        return self.sides[0].hidden_states[s][row, column].tolist(), self.sides[1].hidden_states[t][
            row, column
        ].tolist()

    def attention(self, s: int, t: int, row: int, head: int, query: int) -> tuple[list[float], list[float]]:
        a, b = (
            side.attentions[layer][row, head, query].tolist() for side, layer in zip(self.sides, (s, t), strict=True)
        )
        return a, b


def cosine(s: list[float], t: list[float]) -> float:
    dot = sum(a * b for a, b in zip(s, t, strict=True))
    return 1 - dot / math.sqrt(sum(a * a for a in s) * sum(b * b for b in t))


def square(s: list[float], t: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(s, t, strict=True))


def expected_mlm(ref: Reference) -> float:
    places = ref.at("masked")
    pairs = zip(places, ref.batch.labels.tolist(), strict=True)
    return sum(-math.log(ref.logits(*place)[0][label]) for place, label in pairs) / len(places)


def expected_output(ref: Reference, positions: str, temperature: float, teacher_first: bool) -> float:
    places = ref.at(positions)
    pairs = [ref.logits(*place, temperature) for place in places]
    found = [reference_kl(t, s) if teacher_first else reference_kl(s, t) for s, t in pairs]
    return temperature**2 * sum(found) / len(places)


def expected_soft(ref: Reference, temperature: float) -> float:
    places = ref.at("masked")
    pairs = [ref.logits(*place, temperature) for place in places]
    return -sum(b * math.log(a) for s, t in pairs for a, b in zip(s, t, strict=True)) / len(places)


def expected_logits(ref: Reference, positions: str) -> float:
    places = ref.at(positions)
    pairs = [[side.logits[place].tolist() for side in ref.sides] for place in places]
    return sum(square(*pair) for pair in pairs) / len(places) / V


def expected_hidden(ref: Reference, pairs: list[tuple[int, int]], positions: str, loss: str) -> float:
    places = ref.at(positions)
    compare = cosine if loss == "cosine" else square
    width = ref.sides[1].hidden_states[0].shape[-1] if loss == "mse" else 1
    return sum(compare(*ref.hidden(s, t, *place)) for s, t in pairs for place in places) / len(places) / width


def expected_attention(ref: Reference, layer_map: list[int], positions: str, loss: str, entries: bool) -> float:
    total = 0.0
    denominator = 0
    for row, query in ref.at(positions):
        length = ref.width if positions == "all" else int(ref.batch.real[row].sum())
        denominator += 4 * (length if entries else 1)
        for s, t in enumerate(layer_map):
            for head in range(4):
                mine, other = ref.attention(s, t, row, head, query)
                total += reference_kl(other, mine) if loss == "kl" else square(mine, other)
    return total / denominator


def found_of(section: dict[str, object], batch: Batch) -> dict[str, float]:
    student, teacher = bert(2).double(), bert(4).double()
    objective = Objective(spec.Objective.model_validate_json(json.dumps(section)), student.config, teacher.config)
    learner, targets = StudentLearner(student, objective).eval(), Teacher(teacher, objective)
    means = learner(batch, targets(batch)) / objective.count(batch)
    return dict(zip((*objective.parts, *objective.measures), means.tolist(), strict=True))


LAST = [(2, 4)]
MAPPED = [(1, 2), (2, 4)]
CASES = {
    "eq. 1": ({"mlm": {}}, "mlm", expected_mlm),
    "eq. 2 as trained": ({"output": {"temperature": 2}}, "output", lambda ref: expected_output(ref, "masked", 2, True)),
    "eq. 2 as printed": (
        {"output": {"direction": "student_teacher"}},
        "output",
        lambda ref: expected_output(ref, "masked", 1, False),
    ),
    "output at every real position": (
        {"output": {"positions": "real"}},
        "output",
        lambda ref: expected_output(ref, "real", 1, True),
    ),
    "output* of eq. 7": ({"soft_labels": {"temperature": 2}}, "soft_labels", lambda ref: expected_soft(ref, 2)),
    "logits": ({"logits": {}, "output": {"positions": "all"}}, "logits", lambda ref: expected_logits(ref, "masked")),
    "eq. 3": ({"align": {}}, "align", lambda ref: expected_hidden(ref, LAST, "real", "cosine")),
    "eq. 3 over padding": (
        {"align": {"positions": "all"}},
        "align",
        lambda ref: expected_hidden(ref, LAST, "all", "cosine"),
    ),
    "eq. 6": ({"embed": {}}, "embed", lambda ref: expected_hidden(ref, [(0, 0)], "real", "mse")),
    "hidden of eq. 8": (
        {"compact": {"layer_map": [1, 3]}},
        "compact.hidden",
        lambda ref: expected_hidden(ref, MAPPED, "real", "cosine"),
    ),
    "attention of eq. 8": (
        {"compact": {"layer_map": [1, 3]}},
        "compact.attention",
        lambda ref: expected_attention(ref, [1, 3], "real", "kl", False),
    ),
    "attention of eq. 8 with the authors' mean over keys and padding": (
        {"compact": {"layer_map": [1, 3], "reduction": "entries", "positions": "all"}},
        "compact.attention",
        lambda ref: expected_attention(ref, [1, 3], "all", "kl", True),
    ),
    "hidden of eq. 5": (
        {"layer": {"layer_map": [1, 3], "projection": "none"}},
        "layer.hidden",
        lambda ref: expected_hidden(ref, MAPPED, "real", "mse"),
    ),
    "attention of eq. 5": (
        {"layer": {"layer_map": [1, 3], "projection": "none"}},
        "layer.attention",
        lambda ref: expected_attention(ref, [1, 3], "real", "mse", True),
    ),
    "attention of eq. 5 over padding": (
        {"layer": {"layer_map": [1, 3], "projection": "none", "positions": "all"}},
        "layer.attention",
        lambda ref: expected_attention(ref, [1, 3], "all", "mse", True),
    ),
    "hidden states of masked positions": (
        {"hidden": {"loss": "mse", "layer_map": [1, 3], "positions": "masked"}},
        "hidden",
        lambda ref: expected_hidden(ref, MAPPED, "masked", "mse"),
    ),
    "attention of masked queries": (
        {"attention": {"loss": "mse", "layer_map": [1, 3], "positions": "masked"}},
        "attention",
        lambda ref: expected_attention(ref, [1, 3], "masked", "mse", True),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_term_is_its_equation(name: str) -> None:
    section, part, expected = CASES[name]
    batch = ragged([6, 3, 5])
    reference = Reference(bert(2).double(), bert(4).double(), batch)
    assert found_of(section, batch)[part] == pytest.approx(expected(reference), rel=1e-6)


def test_attention_scores_are_compared_before_the_softmax() -> None:
    batch = ragged([6, 3, 5])
    student, teacher = bert(2).double(), bert(4).double()
    total, count = 0.0, 0
    for row in range(3):
        length = int(batch.real[row].sum())
        maps = []
        for model in (student, teacher):
            hidden = model.eval().bert(batch.input_ids, batch.real.long(), output_hidden_states=True).hidden_states[1]
            layer = model.bert.encoder.layer[1].attention.self
            query, key = (part(hidden[row]).view(-1, 4, 8).transpose(0, 1) for part in (layer.query, layer.key))
            maps.append((query @ key.transpose(1, 2) / math.sqrt(8))[:, :length, :length])
        total += float(((maps[0] - maps[1]) ** 2).sum())
        count += 4 * length * length
    section = {"attention": {"loss": "mse", "on": "scores", "layer_map": [1, 1], "layer_lambdas": [0, 1]}}
    assert found_of(section, batch)["attention"] == pytest.approx(total / count, rel=1e-6)


def test_widths_that_differ_are_compared_through_a_projection() -> None:
    batch = ragged([6, 3, 5])
    student, teacher = bert(2, width=16).double(), bert(4).double()
    text = '{"layer": {"layer_map": [1, 3]}, "embed": {"projection": "shared"}, "align": {"projection": "own"}}'
    objective = Objective(spec.Objective.model_validate_json(text), student.config, teacher.config).double()
    assert {name: tuple(value.shape) for name, value in objective.named_parameters()} == {
        "projections.shared.weight": (32, 16),
        "projections.shared.bias": (32,),
        "projections.align.weight": (32, 16),
        "projections.align.bias": (32,),
    }
    learner, targets = StudentLearner(student, objective).eval(), Teacher(teacher, objective)
    totals = learner(batch, targets(batch))
    totals.sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in objective.parameters())
    found = dict(zip((*objective.parts, *objective.measures), (totals / objective.count(batch)).tolist(), strict=True))
    reference = Reference(student, teacher, batch)
    shared = objective.projections["shared"]
    total = sum(
        square(shared(torch.tensor(s, dtype=torch.float64)).tolist(), t)
        for s, t in (reference.hidden(0, 0, *place) for place in reference.at("real"))
    )
    assert found["embed"] == pytest.approx(total / len(reference.at("real")) / 32, rel=1e-6)


def test_own_projections_are_one_for_each_layer() -> None:
    section = spec.Objective.model_validate_json('{"layer": {"layer_map": [1, 3], "projection": "own"}}')
    objective = Objective(section, bert(2, width=16).config, bert(4).config)
    assert sorted(objective.projections) == ["layer_hidden_0", "layer_hidden_1"]


def test_layer_lambdas_weigh_the_layers() -> None:
    batch = ragged([6, 3, 5])
    first, second, both = (
        found_of({"compact": {"layer_map": [1, 3], "layer_lambdas": lambdas}}, batch)
        for lambdas in ([1, 0], [0, 1], [2, 0.5])
    )
    for part in ("compact.hidden", "compact.attention"):
        assert both[part] == pytest.approx(2 * first[part] + 0.5 * second[part])


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (5, 1.0), (10, 2.0), (15, 2.5), (20, 3.0), (999, 3.0)])
def test_lambdas_follow_their_schedule(step: int, weight: float) -> None:
    section = spec.Objective.model_validate_json('{"mlm": {"lambda": {"0": 0, "10": 2, "20": 3}}}')
    objective = Objective(section, bert(2).config)
    assert objective.weights(step).tolist() == pytest.approx([weight])
    assert float(objective.loss(torch.tensor([8.0]), torch.tensor([4.0]), step)) == pytest.approx(2 * weight)


@pytest.mark.parametrize("name", CASES)
def test_a_term_that_is_differentiated_at_once_has_the_gradient_of_the_plain_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradient() -> list[Tensor]:
        batch, student, teacher = ragged([6, 3, 5]), bert(2), bert(4)
        objective = Objective(
            spec.Objective.model_validate_json(json.dumps(CASES[name][0])), student.config, teacher.config
        )
        learner = without_dropout(StudentLearner(student, objective))
        objective.loss(learner(batch, Teacher(teacher, objective)(batch)), objective.count(batch)).mul(3).backward()
        return [value.grad for value in student.parameters() if value.grad is not None]

    found = gradient()
    monkeypatch.setattr(losses, "differentiated_at_once", lambda loss, *student: loss(*student))
    for ours, expected in zip(found, gradient(), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)


class _Kept:
    """What a graph keeps of a tensor, for as long as it does."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_no_map_that_is_compared_is_kept_for_the_backward_pass(loss: str) -> None:
    batch, student, teacher = ragged([9, 7, 8, 6]), bert(2), bert(4)
    text = json.dumps({"attention": {"loss": loss, "layer_map": [1, 3]}})
    objective = Objective(spec.Objective.model_validate_json(text), student.config, teacher.config)
    learner, targets = StudentLearner(student, objective), Teacher(teacher, objective)(batch)
    kept: weakref.WeakSet[_Kept] = weakref.WeakSet()

    def keep(tensor: Tensor) -> _Kept:
        kept.add(made := _Kept(tensor))
        return made

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda made: made.tensor):
        totals = learner(batch, targets)
    assert kept
    assert not [some for some in kept if some.tensor.is_floating_point() and some.tensor.numel() == 4 * 4 * 9 * 9]
    totals.sum().backward()


def test_agreement_is_measured_on_held_out_rows_and_not_trained() -> None:
    batch = ragged([6, 3, 5])
    student, teacher = bert(2).double(), bert(4).double()
    reference = Reference(student, teacher, batch)
    same = [
        s.index(max(s)) == t.index(max(t)) for s, t in (reference.logits(*place) for place in reference.at("masked"))
    ]
    assert found_of({"output": {}}, batch)["agreement"] == pytest.approx(sum(same) / len(same))
    objective = Objective(spec.Objective.model_validate({"output": {}}), student.config)
    assert StudentLearner(bert(2), objective).train()(batch, Teacher(bert(2), objective)(batch)).shape == (1,)


@pytest.mark.parametrize("terms", [{"soft_labels": {}}, {"hidden": {"loss": "mse", "layer_map": [0, 1]}}])
def test_the_mlm_loss_is_measured_where_no_term_trains_it(terms: dict[str, object]) -> None:
    batch = ragged([6, 3, 5])
    expected = found_of({"mlm": {}, "output": {}}, batch)["mlm"]
    assert found_of(terms, batch)["loss/mlm"] == pytest.approx(expected)
    objective = Objective(spec.Objective.model_validate_json(json.dumps(terms)), bert(2).config, bert(4).config)
    learner = StudentLearner(bert(2), objective).train()
    assert learner(batch, Teacher(bert(4), objective)(batch)).shape == (len(objective.parts),)


def test_counts_are_the_denominators_of_the_equations() -> None:
    batch = ragged([6, 3, 5])
    objective = Objective(OBJECTIVE, bert(2).config)
    scored = int(batch.scored.sum())
    assert objective.parts == ("mlm", "output", "compact.hidden", "compact.attention")
    assert objective.measures == ("agreement",)
    assert objective.count(batch).tolist() == [scored, scored, 14, 14 * 4, scored]
    assert objective.weights(0).tolist() == [1, 5, 3, 3]


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_it() -> None:
    text = """{"output": {}, "logits": {}, "align": {}, "embed": {}, "compact": {"layer_map": [0, 1]},
    "soft_labels": {}, "layer": {"layer_map": [0, 1], "projection": "none"},
    "hidden": {"loss": "cosine", "layer_map": [0, 1]},
    "attention": {"loss": "mse", "on": "scores", "layer_map": [0, 1]}}"""
    student, teacher = bert(2).double(), bert(2).double()
    objective = Objective(spec.Objective.model_validate_json(text), student.config)
    learner, targets = StudentLearner(student, objective).eval(), Teacher(teacher, objective)
    batch = ragged([6, 3, 5])
    totals = dict(zip((*objective.parts, *objective.measures), learner(batch, targets(batch)), strict=True))
    assert float(totals["agreement"]) == batch.scored.sum()
    soft = totals.pop("soft_labels")
    soft.backward()
    assert max(float(value.grad.abs().max()) for value in student.parameters() if value.grad is not None) < 1e-9
    totals.pop("agreement")
    totals.pop("loss/mlm")
    assert all(float(total) == pytest.approx(0, abs=1e-9) for total in totals.values()), totals


def test_a_batch_without_masked_tokens_gives_zero_not_nan() -> None:
    batch = ragged([6, 3])
    batch = Batch(batch.input_ids, batch.real, torch.zeros_like(batch.real), batch.labels[:0])
    objective = Objective(spec.Objective.model_validate({"mlm": {}}), bert(2).config)
    totals = StudentLearner(bert(2), objective)(batch, Outputs())
    assert float(objective.loss(totals.detach(), objective.count(batch))) == 0.0


def test_the_teacher_says_the_same_of_the_same_batch() -> None:
    objective = Objective(OBJECTIVE, bert(2).config)
    teacher = Teacher(bert(4, dropout=0.3).train(), objective)
    batch = ragged([6, 3, 5])
    first, second = teacher(batch), teacher(batch)
    assert first.logits is not None and second.logits is not None
    assert torch.equal(first.logits, second.logits)


def test_a_rounded_teacher_says_nearly_the_same() -> None:
    batch, student, teacher = ragged([9, 3, 12, 5]), bert(2), bert(4)
    objective = Objective(EVERYTHING, student.config, teacher.config)
    learner = without_dropout(StudentLearner(student, objective))
    exact = learner(batch, Teacher(teacher, objective)(batch))
    rounded = learner(batch, Teacher(teacher.bfloat16(), objective)(batch))
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("averaging", ["logits", "probabilities"])
def test_several_teachers_speak_as_their_weighted_mean(averaging: Averaging) -> None:
    objective = Objective(OBJECTIVE, bert(2).config)
    batch = ragged([6, 3, 5])
    first, second = bert(4), bert(3)
    alone = [Teacher(model, objective)(batch) for model in (first, bert(4))]
    other = Teacher(second, Objective(spec.Objective.model_validate({"output": {}}), bert(2).config))(batch)
    found = Ensemble(Teacher(first, objective), [(second, 3.0)], averaging)(batch)
    assert alone[0].logits is not None and other.logits is not None and found.logits is not None
    if averaging == "logits":
        torch.testing.assert_close(found.logits, 0.25 * alone[0].logits + 0.75 * other.logits)
    else:
        mean = 0.25 * alone[0].logits.softmax(-1) + 0.75 * other.logits.softmax(-1)
        torch.testing.assert_close(found.logits.softmax(-1), mean)
    assert torch.equal(found.hidden[2], alone[1].hidden[2])  # layers are the first teacher's


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
