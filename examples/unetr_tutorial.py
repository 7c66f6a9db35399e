"""3-D segmentation with MONAI's UNETR on an Apple GPU: files, training in mixed precision, inference, checkpoints.

    python examples/unetr_tutorial.py                                    # small: minutes, even on a simulated device
    python examples/unetr_tutorial.py --size 96 --hidden-size 768 --heads 12 --classes 14 --steps 20000 --checkpointing

Nothing here is special to this package: with it installed, ConvTranspose3d runs on `mps`, in half precision too.
Exit status 0 means that the network learnt and that the CPU segments alike with the same weights.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", module=r"monai\.|torchvision\.")

import nibabel  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from monai.data import DataLoader, Dataset, decollate_batch  # noqa: E402
from monai.inferers import sliding_window_inference  # noqa: E402
from monai.losses import DiceCELoss, DiceLoss  # noqa: E402
from monai.metrics import DiceMetric  # noqa: E402
from monai.networks.nets import UNETR  # noqa: E402
from monai.transforms import (  # noqa: E402
    AsDiscrete,
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    KeepLargestConnectedComponent,
    LoadImaged,
    Orientationd,
    RandCropByPosNegLabeld,
    RandGaussianNoised,
    RandRotated,
    RandZoomd,
    ScaleIntensityRanged,
    Spacingd,
)
from monai.utils import set_determinism  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

PRECISIONS = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}
SPACING = (1.5, 1.5, 2.0)  # millimetres, of all volumes once resampled


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    show = {"help": "default %(default)s"}
    parser.add_argument("--device", default="mps", **show)
    parser.add_argument("--precision", choices=PRECISIONS, default="float16", **show)
    parser.add_argument("--loss", choices=("dice", "dice_ce"), default="dice_ce", **show)
    parser.add_argument(
        "--checkpointing", action="store_true", help="recompute the transformer: less memory, more time"
    )
    parser.add_argument("--steps", type=int, default=30, **show)
    parser.add_argument("--samples", type=int, default=4, help="crops of a volume in each step; default %(default)s")
    parser.add_argument("--size", type=int, default=32, help="of a crop, a multiple of 16; default %(default)s")
    parser.add_argument("--classes", type=int, default=3, help="background included; default %(default)s")
    parser.add_argument("--feature-size", type=int, default=16, **show)
    parser.add_argument("--hidden-size", type=int, default=96, **show)
    parser.add_argument("--heads", type=int, default=4, **show)
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="the tutorial's is 1e-4; default %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("build/unetr_tutorial"), help="for all files")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the folder")
    return parser.parse_args()


# --- Data: volumes in NIfTI files, as a scanner gives them ---


def make_volume(shape: tuple[int, ...], classes: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image in Hounsfield units and its class numbers: ellipsoids, each inside the one before, in noise."""
    axes = np.indices(shape, dtype=np.float32)
    size = np.array(shape)
    center, radii = size * generator.uniform(0.42, 0.58, 3), size * generator.uniform(0.28, 0.38, 3)
    label = np.zeros(shape, np.uint8)
    for number in range(1, classes):
        inside = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, center, radii * 0.65 ** (number - 1))) < 1
        label[inside] = number
    image = -800 + 1600.0 * label / max(1, classes - 1) + generator.normal(0, 100, shape)
    return image.astype(np.float32), label


def write_files(folder: Path, count: int, size: int, classes: int) -> list[dict[str, str]]:
    """NIfTI files on a grid other than the one the network sees."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.2, 1.2, 2.0, 1.0])  # left to right the other way round
    shape = tuple(int(1.25 * size * wanted / given) for wanted, given in zip(SPACING, (1.2, 1.2, 2.0)))
    files = []
    for number in range(count):
        entry = {}
        for key, array in zip(("image", "label"), make_volume(shape, classes, generator)):
            path = folder / f"{key}_{number:02}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(array, affine), path)
            entry[key] = str(path)
        files.append(entry)
    return files


def load_transforms() -> list:
    keys = ("image", "label")
    return [
        LoadImaged(keys),
        EnsureChannelFirstd(keys),
        Orientationd(keys, axcodes="RAS"),
        Spacingd(keys, pixdim=SPACING, mode=("bilinear", "nearest")),
        ScaleIntensityRanged("image", a_min=-1000, a_max=1000, b_min=0.0, b_max=1.0, clip=True),
        EnsureTyped(keys, track_meta=False),
    ]


def training_transforms(size: int, samples: int) -> list:
    keys = ("image", "label")
    return [
        RandCropByPosNegLabeld(keys, "label", spatial_size=(size,) * 3, pos=1, neg=1, num_samples=samples),
        RandRotated(keys, prob=0.5, range_x=0.3, range_y=0.3, range_z=0.3, mode=("bilinear", "nearest")),
        RandZoomd(keys, prob=0.5, min_zoom=0.8, max_zoom=1.2, mode=("trilinear", "nearest")),
        RandGaussianNoised("image", prob=0.5, std=0.1),
    ]


# --- Training ---


def make_model(options: argparse.Namespace) -> UNETR:
    model = UNETR(
        in_channels=1,
        out_channels=options.classes,
        img_size=(options.size,) * 3,
        feature_size=options.feature_size,
        hidden_size=options.hidden_size,
        mlp_dim=4 * options.hidden_size,
        num_heads=options.heads,
        proj_type="perceptron",
        norm_name="instance",
        res_block=True,
        dropout_rate=0.0,
    )
    if options.checkpointing:
        for block in model.vit.blocks:
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    return model


def autocast(options: argparse.Namespace) -> contextlib.AbstractContextManager:
    dtype = PRECISIONS[options.precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(options.device, dtype=dtype)


class Training:
    """Model, optimizer, schedule and gradient scaler: what a checkpoint holds."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.model = make_model(options).to(options.device)
        if options.loss == "dice":
            self.loss_function = DiceLoss(to_onehot_y=True, softmax=True)
        else:
            self.loss_function = DiceCELoss(to_onehot_y=True, softmax=True, lambda_dice=0.7, lambda_ce=0.3)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=options.learning_rate)
        warm_up = max(1, options.steps // 10)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: min(1.0, (step + 1) / warm_up))
        # Only float16 has so small a range that gradients vanish.
        self.scaler = torch.amp.GradScaler(options.device, enabled=options.precision == "float16")
        self.losses: list[float] = []

    def step(self, image: torch.Tensor, label: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        with autocast(self.options):
            logits = self.model(image)
        loss = self.loss_function(logits.float(), label)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.losses.append(loss.item())
        return self.losses[-1]

    def _parts(self) -> dict:
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule, "scaler": self.scaler}

    def save(self, path: Path) -> None:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        torch.save({**state, "losses": self.losses}, path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.options.device, weights_only=True)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.losses = state["losses"]


def memory(device: str) -> str:
    return f"{torch.mps.driver_allocated_memory() / 2**20:.0f} MB on the device" if device == "mps" else ""


def train(training: Training, loader: DataLoader, steps: int) -> None:
    """Until `steps` steps are done, those of a checkpoint included."""
    options = training.options
    while len(training.losses) < steps:
        for batch in loader:
            started = time.monotonic()
            try:
                loss = training.step(batch["image"].to(options.device), batch["label"].to(options.device))
            except RuntimeError as error:
                if "out of memory" in str(error):
                    raise SystemExit(
                        f"{error}\nTry --samples 1, --checkpointing, or --size {options.size - 16}."
                    ) from None
                raise
            done = len(training.losses)
            if done % max(1, options.steps // 10) == 0 or done == steps:
                seconds = time.monotonic() - started
                print(f"step {done:4}  loss {loss:.4f}  {seconds:.1f} s  {memory(options.device)}", flush=True)
            if done == steps:
                return


# --- Inference ---


def segment(model: torch.nn.Module, image: torch.Tensor, options: argparse.Namespace) -> torch.Tensor:
    """Logits [1, classes, D, H, W] of a whole volume, window by window."""
    model.eval()
    with torch.inference_mode(), autocast(options):
        return sliding_window_inference(image, (options.size,) * 3, 2, model, overlap=0.25, mode="gaussian").float()


def evaluate(training: Training, loader: DataLoader) -> tuple[float, float]:
    """Mean Dice on unseen volumes, and the share of voxels that the CPU, in float32, puts into the same class."""
    options = training.options
    softmax_argmax = AsDiscrete(argmax=True)
    one_hot = AsDiscrete(to_onehot=options.classes)
    keep_largest = KeepLargestConnectedComponent(applied_labels=list(range(1, options.classes)), is_onehot=False)
    on_cpu = make_model(options)
    on_cpu.load_state_dict(training.model.state_dict())
    cpu_options = argparse.Namespace(**{**vars(options), "device": "cpu", "precision": "float32"})

    metric = DiceMetric(include_background=False)
    same = []
    for batch in loader:
        logits = segment(training.model, batch["image"].to(options.device), options).cpu()
        same.append((logits.argmax(1) == segment(on_cpu, batch["image"], cpu_options).argmax(1)).float().mean().item())
        predictions = [one_hot(keep_largest(softmax_argmax(volume))) for volume in decollate_batch(logits)]
        metric(predictions, [one_hot(label) for label in decollate_batch(batch["label"])])
    return metric.aggregate().item(), sum(same) / len(same)


def main() -> int:
    options = parse()
    if options.device == "mps" and not torch.backends.mps.is_available():
        print("It did not work: this machine has no device mps (`make setup` gives Linux a simulated one).")
        return 1
    set_determinism(seed=0)
    files = write_files(options.folder / "data", 4, options.size, options.classes)
    training_data = Dataset(files[:-1], Compose(load_transforms() + training_transforms(options.size, options.samples)))
    training_loader = DataLoader(training_data, batch_size=1, shuffle=True)
    validation_loader = DataLoader(Dataset(files[-1:], Compose(load_transforms())), batch_size=1)

    saved = options.folder / "checkpoint.pt"
    training = Training(options)
    if options.resume:
        training.load(saved)
        print(f"going on after step {len(training.losses)}")
    else:
        train(training, training_loader, options.steps // 2)
        training.save(saved)
        # As if the program had been stopped here and started again with --resume.
        training = Training(options)
        training.load(saved)
        print(f"saved and loaded {saved}")
    train(training, training_loader, options.steps)
    training.save(saved)

    score, same = evaluate(training, validation_loader)
    (options.folder / "losses.json").write_text(json.dumps(training.losses))
    print(f"Dice on an unseen volume {score:.3f}; the CPU puts {100 * same:.2f} % of its voxels into the same class")
    quarter = max(1, len(training.losses) // 4)
    first, last = (sum(part) / quarter for part in (training.losses[:quarter], training.losses[-quarter:]))
    if not (last < first and same > 0.98):
        print(f"It did not work: the loss went from {first:.4f} to {last:.4f}, or the CPU segments otherwise.")
        return 1
    print(f"It worked: the loss went from {first:.4f} to {last:.4f} in {options.precision} on device {options.device}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
