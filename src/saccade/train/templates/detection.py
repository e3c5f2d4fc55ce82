"""A training job: boxes around objects.

    saccade train profile job.py                    where does a step's time go
    saccade train optimize job.py --out runs/mine   what makes it faster
    saccade train run runs/mine                     the whole training
    saccade train run job.py --out runs/plain       the whole training, as it stands here

Everything here is plain PyTorch. Change what you like; saccade needs `model`, `dataset`, `loss` and
`optimizer`, and takes the other functions where they are.
"""

import torch
from torchvision import models, tv_tensors
from torchvision.transforms import v2

from saccade.train.detector import TrainableDetector, collate_detection, detection_loss
from saccade.train.labelled import open_split
from saccade.train.metrics import BoxAveragePrecision

DATA = "data"
SIDE = 320  # the shorter side of the images that the model gets, in pixels
LEARNING_RATE = 0.005

batch_size = 8
accumulation = 1  # forward passes that make one optimizer step
epochs = 30
workers = 2  # processes that load images


def dataset(split):
    """Samples of "train" or "val": (path of an image, boxes in pixels, classes)."""
    return open_split(DATA, "detection", split)


def transforms(split):
    """From a sample, its image now (H, W, 3) uint8, to an image and its target."""
    augment = [v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3, 0.3)] if split == "train" else []
    kinds = {tv_tensors.Image: torch.float32, "others": None}
    chain = v2.Compose([v2.Resize(SIDE, antialias=True), *augment, v2.ToDtype(kinds, scale=True)])

    def apply(sample):
        image, boxes, classes = sample
        pixels = tv_tensors.Image(torch.from_numpy(image.copy()).permute(2, 0, 1))
        hw = image.shape[:2]
        x, found = chain(
            pixels,
            tv_tensors.BoundingBoxes(torch.from_numpy(boxes.copy()), format="XYXY", canvas_size=hw),
        )
        # The detector's class 0 is the background.
        target = {"boxes": found.as_subclass(torch.Tensor), "labels": torch.from_numpy(classes) + 1}
        return x.as_subclass(torch.Tensor), target

    return apply


def collate(samples):
    """A batch of images of different sizes, each with its objects."""
    return collate_detection(samples)


def model():
    """The untrained model, any of torchvision's detectors. Load weights to start from here."""
    detector = models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=len(dataset("train").class_names) + 1,
        min_size=SIDE,
        max_size=2 * SIDE,
    )
    return TrainableDetector(detector)


def loss(output, target):
    """Torchvision's detectors compute their losses themselves; this is their sum."""
    return detection_loss(output, target)


def optimizer(model):
    """Over the model's parameters."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4)


def scheduler(optimizer, steps):
    """Stepped once a step; with the argument ``optimizer`` alone it is stepped once an epoch."""
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def metric():
    """mAP50-95 on the "val" split; larger is better."""
    return BoxAveragePrecision()
