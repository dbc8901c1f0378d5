"""What networks return, unwrapped in one place."""

from collections.abc import Mapping

from torch import Tensor


def logits_of(output) -> Tensor:
    """The logits in whatever a network returned."""
    if isinstance(output, Tensor):
        return output
    found = getattr(output, "logits", None)
    if found is None and isinstance(output, Mapping):
        found = next((output[k] for k in ("logits", "out") if k in output), None)
    if found is None and isinstance(output, (tuple, list)):
        found = next((v for v in output if isinstance(v, Tensor)), None)
    if isinstance(found, Tensor):
        return found
    raise ValueError(f"the network returned {type(output).__name__}, in which no logits are")
