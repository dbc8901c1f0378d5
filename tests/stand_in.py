"""A device that is not the CPU, for machines without one: values lie in CPU tensors, but to torch
and to everyone who asks they are on another device, and mixing the two is the error that it would
be on a GPU."""

from contextlib import ExitStack, contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

from kdtutor.distiller import Distiller

# A device type that autograd computes in the calling thread and that has no kernels of its own.
DEVICE = torch.device("lazy", 0)
aten = torch.ops.aten
# What may take tensors of two devices: copies, and positions that lie on the CPU.
MIXED = {aten.copy_, aten._to_copy, aten.index, aten._unsafe_index, aten.index_put_, aten.index_put,
         aten._index_put_impl_}  # fmt: skip


# Where the CPU waits: for a value, for a size that depends on values, for a whole copy.
READING = {aten._local_scalar_dense, aten.nonzero, aten.equal, aten.masked_select, aten._unique2,
           aten.unique_consecutive, aten.unique_dim}  # fmt: skip
COPYING = {aten.copy_, aten._to_copy}
waiting_is_an_error = False


@contextmanager
def no_waiting(device=DEVICE):
    """Within it, what makes the CPU wait for the device is an error."""
    global waiting_is_an_error
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    waiting_is_an_error = True
    try:
        yield
    finally:
        waiting_is_an_error = False
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@contextmanager
def free_steps(monkeypatch, device, per_epoch: int):
    """Within it, no training waits for the device from the end of an epoch's first step to the end
    of its second: the first and the last may look at values. Gives the list of all steps' batches.
    """
    after, free, steps = Distiller.after_step, ExitStack(), []

    def watched(self, batch):
        free.close()
        after(self, batch)
        steps.append(batch)
        if len(steps) % per_epoch == 1:
            free.enter_context(no_waiting(device))

    monkeypatch.setattr(Distiller, "after_step", watched)
    monkeypatch.setattr("kdtutor.training.record.Record.reporter", lambda *_: lambda *_: None)
    with free:
        yield steps


class There(torch.Tensor):
    """A tensor of the other device."""

    made = 0  # so many

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
        )

    def __init__(self, inner: torch.Tensor):
        self.inner = inner
        There.made += 1

    def __repr__(self):
        return f"There({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


def compute(func, args, kwargs):
    """One operation, by the CPU, its result where it belongs."""
    if waiting_is_an_error and waits(func, args, kwargs):
        raise RuntimeError(f"the CPU waits for the other device: {func}")
    flat, _ = tree_flatten((args, kwargs))
    theirs = [t for t in flat if isinstance(t, There)]
    asked = kwargs.get("device")
    here = asked is not None and torch.device(asked).type != DEVICE.type
    if asked is not None:
        kwargs = kwargs | {"device": torch.device(asked if here else "cpu")}
    if theirs and func.overloadpacket not in MIXED:
        mixed = [t for t in flat if type(t) is torch.Tensor and t.ndim]
        if mixed:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{DEVICE} and {mixed[0].device} ({func})"
            )
    inner = lambda v: v.inner if isinstance(v, There) else v
    found = func(*tree_map(inner, args), **tree_map(inner, kwargs))
    to = (theirs or asked is not None) and not here
    if func.overloadpacket is aten.copy_:
        to = isinstance(args[0], There)
    wrap = lambda v: There(v) if to and type(v) is torch.Tensor else v
    if not theirs and not to:
        return found
    return return_and_correct_aliasing(func, args, kwargs, tree_map(wrap, found))


def waits(func, args, kwargs) -> bool:
    """Does this make the CPU wait for the other device?"""
    packet = func.overloadpacket
    if packet in COPYING:
        if packet is aten.copy_:
            (target, source), more = args[:2], args[2:]
            leaves, arrives = isinstance(source, There), isinstance(target, There)
            free = more[0] if more else kwargs.get("non_blocking")
        else:
            leaves, asked = isinstance(args[0], There), kwargs.get("device")
            arrives = leaves if asked is None else torch.device(asked).type == DEVICE.type
            free = kwargs.get("non_blocking")
        return leaves != arrives and (leaves or not free)
    masked = packet in MIXED and any(
        t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1]
    )
    return isinstance(args[0], There) and (packet in READING or masked)


class StandIn(TorchDispatchMode):
    """Within it ``device="lazy"`` works."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        flat, _ = tree_flatten((args, kwargs))
        asked = kwargs.get("device")
        other = asked is not None and torch.device(asked).type == DEVICE.type
        if other or any(isinstance(t, There) for t in flat):
            return compute(func, args, kwargs)
        return func(*args, **kwargs)
