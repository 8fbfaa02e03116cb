"""One forward pass, and no more of its results than somebody needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compactbio.data.batches import Batch
from compactbio.models.architecture import architecture
from compactbio.models.attention import Observed, observe
from compactbio.spec.objective import Positions

_WIDER = ("masked", "real", "all")
"""Sets of positions, each inside the next."""


@dataclass(frozen=True)
class Needs:
    """What a forward pass has to return.

    logits: at which positions, if anywhere. hidden: indices into the hidden states, 0 being the embeddings and
    l + 1 the output of layer l. attention: layers, counted from 0.
    """

    logits: Positions | None = None
    hidden: frozenset[int] = frozenset()
    attention: frozenset[int] = frozenset()

    @staticmethod
    def union(needs: Iterable[Needs]) -> Needs:
        """What serves all of them."""
        every = list(needs)
        scored = [some.logits for some in every if some.logits is not None]
        return Needs(
            max(scored, key=_WIDER.index, default=None),
            frozenset().union(*(some.hidden for some in every)),
            frozenset().union(*(some.attention for some in every)),
        )


@dataclass(frozen=True)
class Outputs:
    """What a forward pass returned.

    logits [M, V] at the positions that were asked for alone. hidden: index to [B, T, D]. attention: by layer.
    """

    logits: Tensor | None = None
    logit_positions: Positions = "masked"
    hidden: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Observed] = field(default_factory=dict)

    def logits_at(self, positions: Positions, batch: Batch) -> Tensor:
        """The logits at some of the positions that there are logits of."""
        assert self.logits is not None
        if positions == self.logit_positions:
            return self.logits
        return self.logits[positions_of(batch, positions)[positions_of(batch, self.logit_positions)]]


def positions_of(batch: Batch, positions: Positions) -> Tensor:
    """Which positions these are [B, T]."""
    match positions:
        case "masked":
            return batch.scored
        case "real":
            return batch.real
        case "all":
            return torch.ones_like(batch.real)


def forward(model: PreTrainedModel, batch: Batch, needs: Needs) -> Outputs:
    """Runs a masked language model made observable on a batch.

    The vocabulary is scored at the positions that are needed and nowhere else.
    """
    with observe(model, needs.attention) as attention:
        encoded = model.base_model(
            input_ids=batch.input_ids,
            attention_mask=batch.real.long(),
            output_hidden_states=bool(needs.hidden),
            return_dict=True,
        )
    hidden = {index: encoded.hidden_states[index] for index in needs.hidden}
    if needs.logits is None:
        return Outputs(None, "masked", hidden, attention)
    at = positions_of(batch, needs.logits)
    logits = architecture(model.config).head(model, encoded.last_hidden_state[at])
    return Outputs(logits, needs.logits, hidden, attention)
