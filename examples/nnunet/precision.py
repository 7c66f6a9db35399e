"""Where the last digits of nnU-Net's probabilities go: device mps and the CPU against the same network in float64.

    python examples/nnunet/precision.py [FOLDER]

FOLDER is what `examples/nnunet` left, with images of one patch. The first column is the network with its mirrorings; in
the second nnU-Net has added its tiles up, in float16 and weighted by a Gaussian, as its commands do.
"""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path

import torch
from commands import HERE
from rich.console import Console
from rich.table import Table


def load(folder: Path):
    """nnU-Net's predictor with the first network in the folder, and a preprocessed image [C, D, H, W]."""
    # nnU-Net reads them when it is imported.
    folders = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    os.environ.update(folders, nnUNet_extTrainer=str((HERE / "trainer").resolve()), DEMO_ITERATIONS="1")
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    model = next(folder.glob("results/*/*__3d_fullres"))
    predictor.initialize_from_trained_model_folder(str(model), use_folds=None)
    predictor.network.load_state_dict(predictor.list_of_parameters[0])
    image = next(folder.glob("raw/*/imagesTs/*.nii.gz"))
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    settings = predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
    return predictor, torch.as_tensor(preprocessor.run_case([str(image)], None, *settings)[0])


def probabilities(predictor, image: torch.Tensor, device: str, dtype: torch.dtype, tiles: bool) -> torch.Tensor:
    network = predictor.network
    predictor.network, predictor.device = copy.deepcopy(network).to(device, dtype).eval(), torch.device(device)
    if tiles:
        logits = predictor.predict_sliding_window_return_logits(image)
    else:
        logits = predictor._internal_maybe_mirror_and_predict(image[None].to(device, dtype))[0]
    predictor.network = network
    return torch.softmax(logits.cpu().double(), 0)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo-nnunet").resolve()
    predictor, image = load(folder)
    exact = probabilities(predictor, image, "cpu", torch.float64, tiles=False)
    table = Table("largest difference", "network", "after nnU-Net's sum", title="Probabilities", title_justify="left")
    results = {
        device: [probabilities(predictor, image, device, torch.float32, tiles) for tiles in (False, True)]
        for device in ("cpu", "mps")
    }
    for device, columns in results.items():
        table.add_row(f"{device} and float64", *(f"{(column - exact).abs().max():.1e}" for column in columns))
    table.add_row("mps and cpu", *(f"{(a - b).abs().max():.1e}" for a, b in zip(results["mps"], results["cpu"])))
    Console().print(table)


if __name__ == "__main__":
    main()
