"""A grid on a GPU, in this process and in others."""

import pytest

from kdtutor.ablation import Grid, run


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_grid(workers, gpu, tmp_path):
    if gpu.type != "cuda":
        pytest.skip("runs of a grid take the GPU that torch sees")
    grid = Grid(
        dataset="digits",
        images=60,
        teacher="mlp16",
        students=["mlp8"],
        methods=["CrossEntropy", "Hinton"],
        seeds=[0, 1],
        epochs=2,
        cache_logits=True,
        fit={"batch_size": 20},
    )
    results = run(grid, tmp_path, workers=workers, progress=False)
    frame = results.frame()
    assert set(frame["status"]) == {"finished"} and len(frame) == 4
