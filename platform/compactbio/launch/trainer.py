"""Ray Train's TorchTrainer, without the processes beside it that would do nothing here."""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from compactbio.launch.environment import wants_dashboard


class Trainer(TorchTrainer):
    """Each process beside the workers is a second of the start on two cores."""

    def _create_default_callbacks(self) -> list[Any]:
        """As Ray's, but for the process that deals out data sets, of which there are none, and for the one that frees
        what a dead controller had reserved where it could not: it asks the dashboard, and waits 12 s if there is none.
        """
        left_out: tuple[type, ...] = (DatasetsCallback,)
        if not wants_dashboard():
            left_out += (PlacementGroupCleanerCallback,)
        return [each for each in super()._create_default_callbacks() if not isinstance(each, left_out)]
