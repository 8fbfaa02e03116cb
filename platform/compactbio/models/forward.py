"""One forward pass, and no more of its results than somebody needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from transformers import PreTrainedModel

from compactbio.data.batches import Batch
from compactbio.models.architecture import architecture
from compactbio.models.attention import observe


@dataclass(frozen=True)
class Needs:
    """What a forward pass has to return.

    hidden: indices into the hidden states, 0 being the embeddings and l + 1 the output of layer l.
    attention: layers, counted from 0.
    """

    logits: bool = False
    hidden: frozenset[int] = frozenset()
    attention: frozenset[int] = frozenset()

    def __or__(self, other: Needs) -> Needs:
        return Needs(self.logits or other.logits, self.hidden | other.hidden, self.attention | other.attention)


@dataclass(frozen=True)
class Outputs:
    """What a forward pass returned.

    logits [M, V] at the scored positions alone. hidden: index to [B, T, D]. attention: layer to the
    log-probabilities [B, H, T, T] over keys, before dropout.
    """

    logits: Tensor | None = None
    hidden: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)


def forward(model: PreTrainedModel, batch: Batch, needs: Needs) -> Outputs:
    """Runs a masked language model made observable on a batch.

    The vocabulary is never scored at a position that has no label.
    """
    with observe(model, needs.attention) as attention:
        encoded = model.base_model(
            input_ids=batch.input_ids,
            attention_mask=batch.real.long(),
            output_hidden_states=bool(needs.hidden),
            return_dict=True,
        )
    logits = None
    if needs.logits:
        logits = architecture(model.config).head(model, encoded.last_hidden_state[batch.scored])
    hidden = {index: encoded.hidden_states[index] for index in needs.hidden}
    return Outputs(logits, hidden, attention)
