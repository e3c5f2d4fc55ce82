"""The 80 class names of COCO detection, in the order that detectors trained on it use.

Some detectors use COCO's own category ids instead, 1 to 90 with gaps.
"""

from __future__ import annotations

_TEXT = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow,
elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee,
skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple,
sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch,
potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone,
microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
"""

COCO_NAMES: tuple[str, ...] = tuple(name.strip() for name in _TEXT.split(","))

# Category ids that COCO left out of detection.
_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def _by_category_id() -> tuple[str, ...]:
    """Names of category ids 1 to 90; an id that is not used is named by its number."""
    names = iter(COCO_NAMES)
    return tuple(f"unused {id_}" if id_ in _GAPS else next(names) for id_ in range(1, 91))


COCO_CATEGORIES: tuple[str, ...] = _by_category_id()
