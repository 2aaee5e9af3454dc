"""The trained part of a stage with adapters, as an adapter folder: what ships where a whole model is too much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn.utils import parametrize

from codecria.checkpoint.adapter import save_adapter
from codecria.training.lora import LoraLinear, whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from codecria.model.transformer import Transformer
    from codecria.training.parallel import World
    from codecria.training.start import Start


def write_adapter(model: Transformer, start: Start, folder: Path, world: World, lineage: Mapping[str, Any]) -> None:
    """Write adapters and new rows as they are now; of a sharded model every rank takes part, the first one writes.

    The adapter names the stage's parent as its base, so the parent must stay where it is.
    """
    recipe = start.recipe
    assert recipe.lora is not None
    layers = [
        (name, whole(module.lora_down), whole(module.lora_up))
        for name, module in model.named_modules()
        if isinstance(module, LoraLinear)
    ]
    new_rows = {
        f"{name}.weight": whole(module.parametrizations.weight[0].rows)  # pyright: ignore
        for name, module in model.named_modules()
        if parametrize.is_parametrized(module, "weight")
    }
    if world.first:
        # Also where this recipe leaves them: a parent whose adapter goes on may have changed its base's.
        changed = {"rope_theta": start.config.rope_theta, "max_positions": start.config.max_positions}
        save_adapter(
            folder,
            layers,
            new_rows,
            base=start.base,
            alpha=recipe.lora.alpha,
            changed=changed,
            chat_template=start.tokenizer.chat_template,
            lineage=lineage,
        )
