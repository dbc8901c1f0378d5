"""An augmentation applied to a whole batch: images, and the masks and boxes that must follow them.

What moves is said by the task (``Task.moved``), how by the augmentation (``move_masks``,
``move_boxes``). Anything else is refused by name before training, never left where it was."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from ..tasks import Task
from ..tasks.detection import PADDING
from .pixels import is_image

METHODS = {"mask": "move_masks", "boxes": "move_boxes"}
KINDS = (*METHODS, "labels", "still")


def check_movable(change, x, y, task: Task, name: str) -> None:
    """Checks that an augmentation can move everything that has to move.

    Args:
        change: The augmentation, not None.
        x: The training inputs.
        y: The training targets, or None.
        task: Says what moves.
        name: The dataset's name, for the message.

    Raises:
        ValueError: For a target that the augmentation cannot move, an entry of a mapping of which
            the task does not say whether it moves, and images of different sizes.
    """
    numbered = getattr(change, "views", None) is not None
    for part, entry, kind in [*_kinds(y, task, "y"), *(_kinds(x, task, "x") if numbered else [])]:
        if kind is None:
            raise ValueError(
                f"{name} is augmented by {change!r}, but the task {task!r} does not say whether "
                f"{entry!r} of {part} moves with the pixels: name it in the task's `moved` "
                f"({', '.join(map(repr, KINDS))}), or use augment=None."
            )
        if kind not in (*KINDS, "image"):
            raise ValueError(
                f"the task {task!r} says that {entry!r} moves as {kind!r}: expected one of "
                f"{', '.join(map(repr, KINDS))}."
            )
        if kind in METHODS and not hasattr(change, METHODS[kind]):
            raise ValueError(
                f"the augmentation {change!r} cannot move {entry!r} of {part} ({kind}) with the "
                f"pixels: it has no method {METHODS[kind]}. Use CropFlip, Flip or Jitter, write "
                "that method, or use augment=None."
            )
    if numbered and isinstance(x, Mapping):
        sizes = {k: tuple(t.shape[2:]) for k, t in x.items() if is_image(k, t)}
        if len(set(sizes.values())) != 1:
            raise ValueError(
                f"{name} is augmented by {change!r}, which needs images of one size in x; given "
                f"{sizes or 'no images'}."
            )


def moved(change, ids: Tensor, x, y, task: Task) -> tuple:
    """The chosen view of a batch: its images and all that moves with them.

    Args:
        change: An augmentation with numbered views.
        ids: (B,) view ids.
        x: Images (B, C, H, W), or a mapping.
        y: The targets, or None.
        task: Says what moves.

    Returns:
        (x, y) of the same form.
    """
    images = x if isinstance(x, Tensor) else next(t for k, t in x.items() if is_image(k, t))
    size = (images.shape[-2], images.shape[-1])
    return (
        _side(change, ids, x, "x", task, size),
        None if y is None else _side(change, ids, y, "y", task, size),
    )


def _side(change, ids, value, part, task, size):
    entries = value if isinstance(value, Mapping) else {part: value}
    kinds = {entry: kind for _, entry, kind in _kinds(value, task, part)}
    out, kept = {}, None
    for entry, t in entries.items():
        if kinds[entry] == "image":
            t = change(t, ids)
        elif kinds[entry] == "mask":
            t = change.move_masks(t, ids, fill=task.ignore)
        elif kinds[entry] == "boxes":
            t, kept = change.move_boxes(t, ids, size)
        out[entry] = t
    if kept is not None:  # a box that left the image becomes padding
        for entry in out:
            if kinds[entry] == "labels":
                out[entry] = out[entry].masked_fill(~kept, PADDING)
    return out if isinstance(value, Mapping) else out[part]


def _kinds(value, task: Task, part: str) -> Iterator[tuple[str, str, str | None]]:
    """(part, entry, what it is) of x or y; None for what the task does not know."""
    if isinstance(value, Mapping):
        for entry, t in value.items():
            image = part == "x" and is_image(entry, t)
            yield part, entry, "image" if image else task.moved.get(entry)
    elif value is not None:
        yield part, part, "image" if part == "x" else task.moved.get("y", "still")
