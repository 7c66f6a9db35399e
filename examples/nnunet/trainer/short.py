"""nnU-Net's own trainer with fewer iterations: nnU-Net finds it through the variable nnUNet_extTrainer."""

import os

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class nnUNetTrainerShort(nnUNetTrainer):
    # nnU-Net reads the names of these parameters.
    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 1
        self.num_iterations_per_epoch = int(os.environ["DEMO_ITERATIONS"])
        self.num_val_iterations_per_epoch = 1
