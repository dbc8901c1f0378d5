"""The speed benchmarks run, at a tiny size; what they measure is looked at by people."""

import os
import subprocess
import sys

import pandas as pd
import pytest

PEER = {  # the smallest thing that looks like a checkout of RepDistiller
    "helper/loops.py": """
def train_distill(epoch, train_loader, module_list, criterion_list, optimizer, opt):
    for images, labels, index in train_loader:
        loss = criterion_list[0](module_list[0](images), labels)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    print("told to stdout")
""",
    "models/__init__.py": "from kdtutor.models import resnet8\nmodel_dict = {'resnet8': lambda "
    "num_classes: resnet8(num_classes)}\n",
    "distiller_zoo/__init__.py": "import torch\nclass DistillKL(torch.nn.Module):\n    def "
    "__init__(self, T): super().__init__()\n",
    "dataset/cifar100.py": """
import torch
from torchvision import datasets, transforms
class Instance(datasets.CIFAR100):
    def __getitem__(self, i): return *super().__getitem__(i), i
def get_cifar100_dataloaders(batch_size, num_workers, is_instance):
    data = Instance("./data/", train=True, download=True, transform=transforms.ToTensor())
    return torch.utils.data.DataLoader(data, batch_size, num_workers=num_workers), None, len(data)
""",
}


def run(repo, *command):
    environment = os.environ | {"PYTHONPATH": str(repo)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=repo,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_training_speed_against_the_limit_and_a_peer(repo, tmp_path):
    for path, text in PEER.items():
        (tmp_path / "peer" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "peer" / path).write_text(text)
    out = run(
        repo,
        "benchmarks/training.py",
        "all",
        "--quick",
        "--threads",
        "1",
        "--peer",
        str(tmp_path / "peer"),
        "--out",
        str(tmp_path),
    )
    assert "told to stdout" not in out
    text = (tmp_path / "training_speed.csv").read_text()
    assert "# command: " in text and str(tmp_path) not in text
    table = pd.read_csv(tmp_path / "training_speed.csv", comment="#")
    assert (
        len(table) == 8 and (table.low <= table.ratio).all() and (table.ratio <= table.high).all()
    )
    assert table.met.isin(["yes", "no"]).sum() == 7 and (table.ratio > 0).all()


def test_a_peer_that_is_not_there_is_one_clear_line(repo, tmp_path):
    done = subprocess.run(
        [sys.executable, "benchmarks/training.py", "peer", "--peer", str(tmp_path)],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(repo)},
    )
    assert (
        done.returncode == 2
        and "no checkout of RepDistiller" in done.stderr
        and "Traceback" not in done.stderr
    )


@pytest.mark.slow
def test_import_time(repo, tmp_path):
    run(repo, "benchmarks/import_time.py", "--rounds", "1", "--out", str(tmp_path))
    assert pd.read_csv(tmp_path / "import_time.csv", comment="#").ratio[0] > 0


@pytest.mark.slow
def test_cost_of_methods_without_peers(repo, tmp_path):
    run(
        repo,
        "benchmarks/methods.py",
        "--batches",
        "8",
        "--rounds",
        "1",
        "--methods",
        "Hinton",
        "FSP",
        "CRD",
        "DML",
        "--out",
        str(tmp_path),
    )
    table = pd.read_csv(tmp_path / "methods_speed.csv", comment="#")
    assert (
        table.method.tolist() == ["Hinton", "FSP", "CRD", "DML"]
        and (table.ratio > 0).all()
        and (table.peak_mib > 0).all()
    )


@pytest.fixture
def tiny_cifar(tmp_path):
    """Forty training and twenty test images of noise, as folders of PNG files under the name
    cifar10.
    """
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for name in "abcdefghij":
            folder = tmp_path / "cifar10" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
                    folder / f"{i}.png"
                )
    return tmp_path


@pytest.mark.slow
def test_the_tables_over_methods_and_generations(repo, tiny_cifar):
    common = [
        "--data",
        str(tiny_cifar),
        "--out",
        str(tiny_cifar),
        "--precision",
        "float32",
        "--images",
        "40",
        "--epochs",
        "2",
    ]
    names = ["CrossEntropy", "AB", "DML", "ONE", "RKD-D", "CRD+KD"]
    run(
        repo,
        "benchmarks/methods_cifar10.py",
        *common,
        "--runs",
        str(tiny_cifar / "a"),
        "--teacher-epochs",
        "1",
        "--seeds",
        "0",
        "1",
        "--methods",
        *names,
    )
    table = pd.read_csv(tiny_cifar / "methods_cifar10.csv", comment="#")
    assert (
        table.method.tolist() == ["teacher", *names, *names]
        and (table[table.method == "CrossEntropy"].gain == 0).all()
    )
    run(
        repo,
        "benchmarks/born_again.py",
        *common,
        "--runs",
        str(tiny_cifar / "b"),
        "--seeds",
        "0",
        "1",
        "--depth",
        "10",
        "--growth",
        "4",
    )
    table = pd.read_csv(tiny_cifar / "born_again_cifar10.csv", comment="#")
    assert {
        "Teacher",
        "BAN",
        "BAN+L",
        "CWTM",
        "DKPP",
        "BAN-1",
        "BAN-2",
        "BAN-3",
        "Ens*2",
        "Ens*3",
        "2 teachers",
    } == set(table.network)


@pytest.mark.slow
def test_cost_of_the_ablation_bench(repo, tmp_path):
    run(
        repo,
        "benchmarks/ablation.py",
        "--seeds",
        "2",
        "--epochs",
        "1",
        "--images",
        "100",
        "--runs",
        "3",
        "--rounds",
        "1",
        "--many",
        "5",
        "--out",
        str(tmp_path),
    )
    table = pd.read_csv(tmp_path / "ablation.csv", comment="#")
    assert (
        table["what"].tolist()[:4]
        == [
            "overhead of a run, ms",
            "resume of a finished store, s",
            "two workers over one",
            "run with its teacher's answers stored over computed",
        ]
        and len(table) == 9
        and (table["value"].iloc[1:] > 0).all()
        # a difference of two times: of six tiny runs on a busy machine it can have either sign
        and (table[["bench_s", "other_s"]].iloc[0] > 0).all()
    )


@pytest.mark.slow
def test_the_tables_over_noise_and_imbalance(repo, tiny_cifar):
    run(
        repo,
        "benchmarks/beyond_compression.py",
        "--data",
        str(tiny_cifar),
        "--out",
        str(tiny_cifar),
        "--store",
        str(tiny_cifar / "c"),
        "--images",
        "20",
        "--epochs",
        "1",
        "--teacher-epochs",
        "1",
        "--seeds",
        "0",
    )
    noise, unequal = (
        pd.read_csv(tiny_cifar / f"{name}_cifar10.csv", comment="#")
        for name in ("label_noise", "imbalance")
    )
    assert sorted(set(noise.label_noise)) == [0, 0.2, 0.4, 0.6] and sorted(
        set(unequal.imbalance)
    ) == [0.2, 2]
    assert (
        set(noise[noise.label_noise > 0].teacher_sees) == {"same", "clean"}
        and noise.method.nunique() == 7
    )


@pytest.mark.slow
def test_speed_of_entropy_maps(repo, tmp_path):
    run(
        repo,
        "benchmarks/concepts.py",
        "--networks",
        "vgg",
        "--layers",
        "fc2",
        "--images",
        "2",
        "--checkpoints",
        "1",
        "--epochs",
        "1",
        "--rounds",
        "1",
        "--noise",
        "4",
        "--iterations",
        "60",
        "--threads",
        "1",
        "--float64",  # in float32 rounding alone grows to 1e-5 on some processors
        "--out",
        str(tmp_path),
    )
    table = pd.read_csv(tmp_path / "concepts_speed.csv", comment="#").set_index("what")
    assert (
        list(table.index) == ["same recipe", "to the last step", "first-order start", "closed form"]
        and (table.ratio > 0).all()
    )
    assert (
        table.largest_difference["same recipe"] < 1e-8 < table.largest_difference["closed form"]
    )  # the loop's maps, draw for draw


@pytest.mark.slow
def test_the_tables_over_concepts(repo, tiny_cifar):
    runs = [
        "--runs",
        str(tiny_cifar / "d"),
        "--out",
        str(tiny_cifar),
        "--networks",
        "alexnet",
        "--seeds",
        "0",
    ]
    run(
        repo,
        "benchmarks/concepts_replication.py",
        *runs,
        "--data",
        str(tiny_cifar),
        "--quick",
        "--analysed",
        "2",
        "--noise",
        "4",
    )
    table = pd.read_csv(tiny_cifar / "concepts_replication.csv", comment="#")
    assert set(table.metric) == {"n_fg", "n_bg", "lambda", "d_mean", "d_std", "rho"} and set(
        table.model
    ) == {"baseline", "distilled"}
    assert (
        set(table.dataset) == {"scenes", "cifar10"} and len(table) == 2 * 2 * 2 * 2 * 2 * 6
    )  # data, layer, model, map, variant, metric
    pytest.importorskip("captum")
    run(repo, "benchmarks/concept_parts.py", *runs, "--images", "3", "--noise", "4")
    table = pd.read_csv(tiny_cifar / "concept_parts.csv", comment="#")
    assert {"optimised", "first order", "integrated gradients", "occlusion", "chance"} == set(
        table.method
    ) and (table.cells > 0).all()
