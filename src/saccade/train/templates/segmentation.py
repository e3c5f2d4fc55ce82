"""A training job: a class for every pixel.

    saccade train profile job.py                    where does a step's time go
    saccade train optimize job.py --out runs/mine   what makes it faster
    saccade train run runs/mine                     the whole training
    saccade train run job.py --out runs/plain       the whole training, as it stands here

Everything here is plain PyTorch. Change what you like; saccade needs `model`, `dataset`, `loss` and
`optimizer`, and takes the other functions where they are.
"""

import itertools

import torch
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from saccade.train.labelled import open_split
from saccade.train.metrics import MeanIou

DATA = "data"
SIDE = 256  # of the crops that the model gets, in pixels; a multiple of 8
WIDTHS = (24, 48, 96, 144)  # channels at each resolution of the U-Net
VOID = 255  # class of pixels that do not count
LEARNING_RATE = 1e-3

batch_size = 8
accumulation = 1  # forward passes that make one optimizer step
epochs = 50
workers = 2  # processes that load images


def dataset(split):
    """Samples of "train" or "val": (path of an image, path of its mask). saccade reads both."""
    return open_split(DATA, "segmentation", split)


def transforms(split):
    """From a sample, image (H, W, 3) and mask (H, W) of uint8, to input and target."""
    if split == "train":
        augment = [
            v2.RandomResizedCrop(SIDE, scale=(0.4, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.3, 0.3, 0.3),
        ]
    else:
        augment = [v2.Resize(SIDE, antialias=True), v2.CenterCrop(SIDE)]
    kinds = {tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}
    chain = v2.Compose(
        [
            *augment,
            v2.ToDtype(kinds, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    void_ids = torch.tensor(dataset(split).void_ids)

    def apply(sample):
        image, mask = sample
        pixels = tv_tensors.Image(torch.from_numpy(image.copy()).permute(2, 0, 1))
        x, y = chain(pixels, tv_tensors.Mask(torch.from_numpy(mask.copy())))
        x, y = x.as_subclass(torch.Tensor), y.as_subclass(torch.Tensor)
        return x, torch.where(torch.isin(y, void_ids), VOID, y)

    return apply


def block(inputs, outputs):
    """Two convolutions."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """U-Net (Ronneberger et al., 2015), with batch normalization."""

    def __init__(self, classes):
        super().__init__()
        down = (3, *WIDTHS)
        self.down = nn.ModuleList(block(a, b) for a, b in zip(down, WIDTHS, strict=False))
        up = WIDTHS[::-1]
        pairs = list(itertools.pairwise(up))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairs)
        self.mix = nn.ModuleList(block(2 * b, b) for _, b in pairs)
        self.head = nn.Conv2d(WIDTHS[0], classes, 1)

    def forward(self, x):
        """(N, 3, H, W) to (N, classes, H, W)."""
        skips = []
        for number, down in enumerate(self.down):
            x = down(nn.functional.max_pool2d(x, 2) if number else x)
            skips.append(x)
        for up, mix, skip in zip(self.up, self.mix, skips[-2::-1], strict=True):
            x = mix(torch.cat([skip, up(x)], 1))
        return self.head(x)


def model():
    """The untrained model. To start from weights, load their state dict here."""
    return UNet(len(dataset("train").class_names))


def loss(output, target):
    """One number to be made small; ``output`` is what the model returned."""
    return nn.functional.cross_entropy(output, target, ignore_index=VOID)


def optimizer(model):
    """Over the model's parameters."""
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)


def scheduler(optimizer, steps):
    """Stepped once a step; with the argument ``optimizer`` alone it is stepped once an epoch."""
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def metric():
    """Mean intersection over union on the "val" split; larger is better."""
    return MeanIou(len(dataset("val").class_names), VOID)
