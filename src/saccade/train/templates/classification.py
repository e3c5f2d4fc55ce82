"""A training job: which class is in an image.

    saccade train profile job.py                    where does a step's time go
    saccade train optimize job.py --out runs/mine   what makes it faster
    saccade train run runs/mine                     the whole training
    saccade train run job.py --out runs/plain       the whole training, as it stands here

Everything here is plain PyTorch. Change what you like; saccade needs `model`, `dataset`, `loss` and
`optimizer`, and takes the other functions where they are.
"""

import torch
import torchvision
from torchvision.transforms import v2

from saccade.train.labelled import open_split

DATA = "data"
SIDE = 224  # of the images that the model gets, in pixels
LEARNING_RATE = 1e-3

batch_size = 32
accumulation = 1  # forward passes that make one optimizer step
epochs = 20
workers = 2  # processes that load images


def dataset(split):
    """Samples of "train" or "val": (path of an image, its class). saccade reads the image."""
    return open_split(DATA, "classification", split)


def transforms(split):
    """From a sample, its image now (H, W, 3) uint8, to what the model gets and its target."""
    if split == "train":
        augment = [v2.RandomResizedCrop(SIDE, antialias=True), v2.RandomHorizontalFlip()]
    else:
        augment = [v2.Resize(SIDE * 8 // 7, antialias=True), v2.CenterCrop(SIDE)]
    chain = v2.Compose(
        [
            v2.ToImage(),
            *augment,
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    return lambda sample: (chain(sample[0]), sample[1])


def model():
    """The untrained model. To start from weights, load their state dict here."""
    return torchvision.models.resnet18(num_classes=len(dataset("train").class_names))


def loss(output, target):
    """One number to be made small; ``output`` is what the model returned."""
    return torch.nn.functional.cross_entropy(output, target, label_smoothing=0.1)


def optimizer(model):
    """Over the model's parameters."""
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)


def scheduler(optimizer, steps):
    """Stepped once a step; with the argument ``optimizer`` alone it is stepped once an epoch."""
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def metric(output, target):
    """Top-1 accuracy on the "val" split; larger is better."""
    return (output.argmax(1) == target).float().mean()
