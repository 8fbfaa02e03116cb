"""A trained student as a folder that plain transformers loads."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compactbio.data.store import Manifest
from compactbio.data.whole import whole_folder
from compactbio.spec.job import Distill, JobSpec


def export_student(
    student: PreTrainedModel, weights: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase, folder: Path, card: str
) -> None:
    """Writes weights (safetensors), configuration, tokenizer and model card to `folder`, whole or not at all.

    One that is there already stays."""
    with whole_folder(folder) as making:
        observed = student.config._attn_implementation
        student.set_attn_implementation("sdpa")
        student.save_pretrained(making, state_dict=weights, safe_serialization=True)
        student.set_attn_implementation(observed)  # the run may go on
        tokenizer.save_pretrained(making)
        (making / "README.md").write_text(card, encoding="utf-8")


def model_card(spec: JobSpec, stage: str, manifest: Manifest, step: int, held_out: dict[str, float]) -> str:
    """Markdown that says how the model was made and what is known of it."""
    section = spec.training_stages()[stage]
    settings = section.model_dump(mode="json", by_alias=True)
    how = (
        "distilled from a teacher"
        if isinstance(section, Distill)
        else "pretrained further by masked language modelling"
    )
    scores = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(held_out.items())) or "| none | |"
    return f"""---
library_name: transformers
pipeline_tag: fill-mask
tags: [biomedical, compactbio]
---

# {spec.name}-{stage}

A masked language model, {how} with compactbio:
{step} of {section.training.steps} steps of {section.training.global_batch} rows.

- Corpus: {", ".join(f"`{source}`" for source in manifest.sources)} (token store {manifest.fingerprint})
- Models it was made from: {", ".join(f"`{field}`: `{model}`" for field, model in section.models().items())}
- Job digest: `{spec.digest()}`, seed {spec.seed}

Held-out rows, dropout off:

| loss | value |
|---|---|
{scores}

The stage's section of the spec:

```json
{json.dumps(settings, indent=2)}
```

```python
from transformers import AutoModelForMaskedLM, AutoTokenizer

model = AutoModelForMaskedLM.from_pretrained("PATH")
tokenizer = AutoTokenizer.from_pretrained("PATH")
```

The model carries the licence terms of the models and of the text that it was made from.
"""
