"""A LightningModule and a LightningDataModule as users write them."""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset

SAMPLES = 22


def tensors(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 8, 8, generator=generator)
    return TensorDataset(images, torch.arange(count) % 3)


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
        self.seen: list[tuple[int, int, int]] = []

    def forward(self, images: Any) -> Any:
        return self.net(images)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        images, target = batch
        loss = torch.nn.functional.cross_entropy(self(images), target)
        self.log("train_loss", loss, prog_bar=True)
        self.seen.append((self.current_epoch, batch_idx, self.global_step))
        return {"loss": loss}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, target = batch
        output = self(images)
        self.log("val_loss", torch.nn.functional.cross_entropy(output, target))
        self.log("val_acc", (output.argmax(1) == target).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, int(steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class Cosine(Net):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1e-2)
        epochs = self.trainer.max_epochs
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)]


class Data(LightningDataModule):
    def setup(self, stage: str) -> None:
        self.train, self.val = tensors(SAMPLES, 0), tensors(7, 1)

    def train_dataloader(self) -> Any:
        return DataLoader(self.train, batch_size=4, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val, batch_size=4)


class ByHand(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class Clipping(Net):
    def on_before_optimizer_step(self, optimizer: Any) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)


class Needy(Net):
    def __init__(self, width: int) -> None:
        super().__init__()
