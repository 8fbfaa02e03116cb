"""Speed and memory of a training step, beside the same step as the recipes' published scripts compute it.

    python tests/benchmarks/step_speed.py speed  [--recipes distilbiobert ...] [--pairs 5] [--rows 24]
        [--precision bf16] [--teacher-precision bf16] [--data DIR]
    python tests/benchmarks/step_speed.py memory [...]
    python tests/benchmarks/step_speed.py overhead [--pairs 5]

`speed`: BERT-base teacher and the recipe's student with random weights, real abstracts cut at 256 tokens, one process
with all cores, fp32 unless told. The reference, always fp32: plain transformers forward passes with eager attention,
all attention maps and hidden states where the recipe compares any, logits of the whole vocabulary at every position,
rows in random order padded to the longest of the micro-batch. Both take the same rows with the same masks in turn;
medians over the pairs.

`memory`: the highest resident memory of a process that trains for two steps, above what weights and optimiser take.

`overhead`: tokens a second of a job on Ray Train and DeepSpeed (one worker and two, ZeRO 0), of a bare loop over its
step, and of that loop with every step in a journal.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

from compactbio.data.build import build_store
from compactbio.launch import environment
from compactbio.models.load import load_tokenizer, quiet_transformers
from compactbio.spec.job import JobSpec
from compactbio.spec.load import load
from compactbio.tracking.journal import Journal, series
from compactbio.training.alone import group_of_one
from compactbio.training.engine import LocalEngine
from compactbio.training.loop import Span, steps
from compactbio.training.optimiser import build_optimiser, build_schedule
from compactbio.training.requests import StageRequest
from compactbio.training.stage import TrainingStage, build_stage

JOBS = Path(__file__).parents[2] / "jobs"
RECIPES = {
    "distilbiobert": "distill/distilbiobert.yaml",
    "compactbiobert": "distill/compactbiobert.yaml",
    "tinybiobert": "distill/tinybiobert.yaml",
    "biodistilbert": "pretrain/biodistilbert-cased.yaml",
}
MANY = 10**6


def make_teacher(folder: Path, data: Path) -> Path:
    """BERT-base, cased, with random weights."""
    from transformers import BertForMaskedLM, BertTokenizer, set_seed

    from compactbio.models.published import published_config

    folder.mkdir()
    (folder / "vocab.txt").write_bytes(gzip.decompress((data / "vocab" / "bert-base-cased.txt.gz").read_bytes()))
    BertTokenizer(str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    set_seed(1)
    BertForMaskedLM(published_config("dmis-lab/biobert-base-cased-v1.2")).save_pretrained(folder)
    return folder


def recipe_spec(recipe: str, teacher: Path, options: argparse.Namespace) -> JobSpec:
    """The recipe on one worker with one micro-batch a step, the teacher's stand-in, and abstracts."""
    stage = "distill" if recipe in ("distilbiobert", "compactbiobert", "tinybiobert") else "pretrain"
    start = "start: random, model: distilbert-base-cased"
    changes = [
        "online=false",
        "corpus.sources=[{format: blocks, files: text/abstracts_*.txt.xz}]",
        f"corpus.tokenizer={teacher}",
        "cluster={num_workers: 1}",
        f"stages.{stage}.training.global_batch={options.rows}",
        f"stages.{stage}.training.micro_batch={options.rows}",
        f"stages.{stage}.training.precision={options.precision}",
        f"stages.{stage}.training.zero_stage={0 if options.precision == 'fp32' else 1}",
        f"teacher={teacher}" if stage == "distill" else f"stages.pretrain.student={{{start}}}",
    ]
    if stage == "distill" and options.teacher_precision:
        changes.append(f"stages.distill.teacher_precision={options.teacher_precision}")
    return load(JOBS / RECIPES[recipe], changes)


@contextmanager
def our_stage(spec: JobSpec, work: Path) -> Iterator[TrainingStage]:
    [name] = spec.training_stages()
    assert spec.corpus is not None and spec.corpus.tokenizer is not None
    tokenizer = load_tokenizer(spec.corpus.tokenizer, "tokenizer", online=False)
    store = build_store(spec.corpus, tokenizer, work / "stores")
    models = {
        field: str(spec.teacher) if model == "teacher" else model for field, model in spec.stages[name].models().items()
    }
    request = StageRequest(spec, name, models, store, work / "stage", {}, 1)
    with group_of_one("gloo"):
        yield build_stage(request, rank=0, device=torch.device("cpu"))


def ours(stage: TrainingStage) -> Callable[[], Any]:
    """Does one step of the platform's own loop."""
    span = Span(MANY)
    return steps(stage.engine, stage.learner, stage.targets, stage.batches, span, report_every=1, seed=1).__next__


class Reference:
    """The same student and teacher under the arithmetic of the published scripts."""

    def __init__(self, recipe: str, stage: TrainingStage) -> None:
        import copy

        self._recipe = recipe
        self._batches = stage.batches
        self._student = copy.deepcopy(stage.learner.student).float()
        self._student.set_attn_implementation("eager")
        self._teacher = copy.deepcopy(stage.teachers[0]).float() if stage.teachers else None
        if self._teacher is not None:
            self._teacher.set_attn_implementation("eager")
        widths = [model.config.hidden_size for model in (self._student, self._teacher) if model is not None]
        self._project = nn.Linear(*widths) if recipe == "tinybiobert" else nn.Identity()
        parameters = [*self._student.parameters(), *self._project.parameters()]
        self._parameters = parameters
        self._optimiser = torch.optim.AdamW(parameters, lr=5e-4)
        for parameter in parameters:  # as its first step would make it
            self._optimiser.state[parameter] = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        self._step = 0

    def __call__(self) -> None:
        """One step."""
        order = torch.randperm(len(self._batches.rows(self._step)), generator=torch.Generator().manual_seed(self._step))
        [batch] = self._batches(self._step)
        ids, real = batch.input_ids[order], batch.real[order].long()
        labels = torch.full_like(batch.input_ids, -100).masked_scatter(batch.scored, batch.labels)[order]
        self._student.train()
        wide = self._recipe in ("compactbiobert", "tinybiobert")
        kept = {"output_hidden_states": self._teacher is not None, "output_attentions": wide}
        student = self._student(input_ids=ids, attention_mask=real, **kept)
        loss = torch.zeros(())
        if self._recipe != "tinybiobert":
            loss = functional.cross_entropy(student.logits.flatten(0, 1), labels.flatten())
        if self._teacher is not None:
            with torch.no_grad():
                teacher = self._teacher(input_ids=ids, attention_mask=real, **kept)
            loss = self._distilled(loss, student, teacher, labels, real)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad()
        float(loss)
        self._step += 1

    def _distilled(self, loss: Tensor, student: Any, teacher: Any, labels: Tensor, real: Tensor) -> Tensor:
        chosen = (labels >= 0)[..., None].expand_as(student.logits)
        width = student.logits.shape[-1]
        ours_ = student.logits.masked_select(chosen).view(-1, width)
        theirs = teacher.logits.masked_select(chosen).view(-1, width)
        match self._recipe:
            case "distilbiobert":
                soft = (
                    functional.kl_div((ours_ / 2).log_softmax(-1), (theirs / 2).softmax(-1), reduction="batchmean") * 4
                )
                return 2 * loss + 5 * soft + _cosine(student.hidden_states[-1], teacher.hidden_states[-1], real)
            case "compactbiobert":
                soft = functional.kl_div(ours_.log_softmax(-1), theirs.softmax(-1), reduction="batchmean")
                inner = torch.zeros(())
                for layer, above in enumerate(range(1, 12, 2)):
                    inner = inner + _cosine(student.hidden_states[layer + 1], teacher.hidden_states[above + 1], real)
                    ours_map, their_map = student.attentions[layer], teacher.attentions[above]
                    inner = inner + functional.kl_div(ours_map.clamp_min(1e-12).log(), their_map, reduction="batchmean")
                return loss + 5 * soft + 3 * inner
            case _:
                total = functional.cross_entropy(ours_, theirs.softmax(-1))
                total = total + functional.mse_loss(self._project(student.hidden_states[0]), teacher.hidden_states[0])
                for layer, above in enumerate((2, 5, 8, 11)):
                    hidden = self._project(student.hidden_states[layer + 1])
                    total = total + functional.mse_loss(hidden, teacher.hidden_states[above + 1])
                    total = total + functional.mse_loss(student.attentions[layer], teacher.attentions[above])
                return total


def _cosine(ours_: Tensor, theirs: Tensor, real: Tensor) -> Tensor:
    chosen = real.bool()[..., None].expand_as(ours_)
    width = ours_.shape[-1]
    first, second = (states.masked_select(chosen).view(-1, width) for states in (ours_, theirs))
    return functional.cosine_embedding_loss(first, second, first.new_ones(len(first)))


def speed(options: argparse.Namespace, work: Path) -> None:
    if len(options.recipes) > 1:  # DeepSpeed does not start twice in a process
        for recipe in options.recipes:
            command = [sys.executable, __file__, "speed", "--recipes", recipe, "--pairs", str(options.pairs)]
            command += ["--data", str(options.data), *same_size(options)]
            subprocess.run(command, check=True)
        return
    teacher = make_teacher(work / "teacher", options.data)
    for recipe in options.recipes:
        spec = recipe_spec(recipe, teacher, options)
        with our_stage(spec, work) as stage:
            both = {"ours": ours(stage), "reference": Reference(recipe, stage)}
            for step in both.values():
                step()
            seconds: dict[str, list[float]] = {name: [] for name in both}
            tokens = []
            for pair in range(options.pairs):
                tokens.append(sum(batch.num_real for batch in stage.batches(pair + 1)))
                for name, step in both.items():
                    started = time.perf_counter()
                    step()
                    seconds[name].append(time.perf_counter() - started)
            rate = {
                name: statistics.median(count / took for count, took in zip(tokens, some, strict=True))
                for name, some in seconds.items()
            }
            ratios = [slow / fast for fast, slow in zip(seconds["ours"], seconds["reference"], strict=True)]
            print(
                f"{recipe}: {rate['ours']:.0f} tokens a second, reference {rate['reference']:.0f}; "
                f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} pairs)",
                flush=True,
            )


def same_size(options: argparse.Namespace) -> list[str]:
    """The options of a measurement, for a process that does a part of it."""
    precisions = ["--teacher-precision", options.teacher_precision] if options.teacher_precision else []
    return ["--rows", str(options.rows), "--precision", options.precision, *precisions]


def memory(options: argparse.Namespace, work: Path) -> None:
    teacher = make_teacher(work / "teacher", options.data)
    for recipe in options.recipes:
        found = {}
        for which in ("ours", "reference"):
            command = [sys.executable, __file__, "one", "--recipes", recipe, "--which", which, *same_size(options)]
            command += ["--data", str(options.data), "--teacher", str(teacher), "--work", str(work)]
            found[which] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        ratio = found["ours"] / found["reference"]
        print(
            f"{recipe}: {found['ours']:.0f} MiB above weights and optimiser, reference {found['reference']:.0f}; "
            f"ratio {ratio:.2f}",
            flush=True,
        )


def one(options: argparse.Namespace, work: Path) -> None:
    """MiB that two steps of one of the two take at the highest, above what there is before them."""
    [recipe] = options.recipes
    with our_stage(recipe_spec(recipe, options.teacher, options), work) as stage:
        step = ours(stage) if options.which == "ours" else Reference(recipe, stage)
        before = psutil.Process().memory_info().rss
        for _ in range(2):
            step()
        print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**20))


def overhead(options: argparse.Namespace, work: Path) -> None:
    """A job on Ray against a bare loop, one worker with one thread each, in turn; the same job on two workers; and the
    bare loop with every step in a journal."""
    rates: dict[str, list[float]] = {}
    for number in range(options.pairs):
        found = {
            "bare loop": bare_in_a_process(work, "bare"),
            "bare loop with a journal": bare_in_a_process(work, "bare_with_journal"),
            "Ray and DeepSpeed, one worker": job_rate(overhead_spec(1), work, f"one-{number}"),
            "Ray and DeepSpeed, two workers": job_rate(overhead_spec(2), work, f"two-{number}"),
        }
        for name, rate in found.items():
            rates.setdefault(name, []).append(rate)
    for name, some in rates.items():
        ratios = [one / bare for one, bare in zip(some, rates["bare loop"], strict=True)]
        print(
            f"{name}: {statistics.median(some):.0f} tokens a second; of the bare loop's "
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs)"
        )


def overhead_spec(num_workers: int) -> JobSpec:
    return load(JOBS / "scaled" / "teacher.yaml", [f"cluster={{num_workers: {num_workers}}}", *OVERHEAD])


def job_rate(spec: JobSpec, work: Path, name: str) -> float:
    """Tokens a second of the job, the median over its steps but the first."""
    folder = work / name
    folder.mkdir()
    (folder / "job.yaml").write_text(yaml.safe_dump(spec.resolved()))
    command = [sys.executable, "-m", "compactbio.launch.cli", "run", "job.yaml", "--set", f"storage={work / 'runs'}"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    journals = (work / "runs").glob("scaled-teacher-*/adapt/journal.jsonl")
    newest = max(journals, key=lambda path: path.stat().st_mtime)
    return statistics.median(value for step, value in series(newest.parent)["tokens_per_second"] if step > 1)


OVERHEAD = [
    "stages.adapt.training.steps=8",
    "stages.adapt.training.warmup_steps=1",
    "stages.adapt.training.global_batch=16",
    "stages.adapt.training.micro_batch=8",
    "stages.adapt.training.zero_stage=0",
    "stages.adapt.training.report_every_steps=1",
    "stages.adapt.training.held_out_rows=0",
    "tracking.register_models=false",
]


def bare_in_a_process(work: Path, what: str) -> float:
    command = [sys.executable, __file__, what, "--work", str(work)]  # DeepSpeed does not start twice in a process
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def bare(options: argparse.Namespace, work: Path) -> None:
    print(bare_rate(overhead_spec(1), work))


def bare_with_journal(options: argparse.Namespace, work: Path) -> None:
    print(bare_rate(overhead_spec(1), work, Journal(Path(tempfile.mkdtemp(dir=work)))))


def bare_rate(spec: JobSpec, work: Path, journal: Journal | None = None) -> float:
    """Tokens a second of the same steps under one optimiser in this process, the median of all but the first."""
    from compactbio.spec.references import locate

    torch.set_num_threads(1)
    teacher = locate(str(spec.teacher), "teacher")
    assert spec.corpus is not None
    store = build_store(spec.corpus, load_tokenizer(teacher, "teacher", online=False), work / "runs" / "stores")
    request = StageRequest(spec, "adapt", {"student.model": teacher}, store, work / "stage", {}, 1)
    with group_of_one("gloo"):
        stage = build_stage(request, rank=0, device=torch.device("cpu"))
        learner, training = stage.learner, request.section.training
        schedule = build_schedule(training, steps=training.steps, warmup_steps=training.warmup_steps)
        engine = LocalEngine(
            learner, build_optimiser(learner, training), schedule, max_grad_norm=1.0, device=torch.device("cpu")
        )
        reports = steps(engine, learner, stage.targets, stage.batches, Span(training.steps), report_every=1, seed=1)
        rates = []
        for report in reports:
            rates += [report.values["tokens_per_second"]] if report.step > 1 else []
            if journal is not None:
                journal.metrics(report.values, report.step)
    return statistics.median(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory", "overhead", "one", "bare", "bare_with_journal"])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=24, help="rows of a micro-batch")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of the platform's step")
    parser.add_argument("--teacher-precision", choices=["fp32", "bf16"], help="of the platform's teacher alone")
    parser.add_argument("--data", type=Path, default=os.environ.get("COMPACTBIO_DATA"))
    parser.add_argument("--which", choices=["ours", "reference"], help=argparse.SUPPRESS)
    parser.add_argument("--teacher", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of real text with --data or COMPACTBIO_DATA")
    options.data = Path(options.data).absolute()
    os.environ["COMPACTBIO_DATA"] = str(options.data)
    environment.prepare_driver()
    quiet_transformers()
    if options.work is not None:
        globals()[options.what](options, options.work)
        return
    with tempfile.TemporaryDirectory() as work:
        globals()[options.what](options, Path(work))


if __name__ == "__main__":
    main()
