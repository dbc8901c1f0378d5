"""What the tests of the figures share."""


def drawn(fig):
    """The figure with everything laid out, as a notebook would show it; words must not leave the
    canvas.
    """
    fig.draw_without_rendering()
    box = fig.bbox
    for ax in fig.axes:
        for part in filter(
            None,
            [*ax.texts, ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label, ax.get_legend()],
        ):
            if part.get_visible() and (
                not hasattr(part, "get_text") or (part.get_text() and ax.axison)
            ):
                extent = part.get_window_extent()
                assert (
                    extent.x0 >= -1
                    and extent.y0 >= -1
                    and extent.x1 <= box.x1 + 1
                    and extent.y1 <= box.y1 + 1
                ), part
    return fig
