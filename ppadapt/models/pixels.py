"""What pixels a network was pretrained on."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Pixels:
    """`mean` and `std` of pixels in 0..1, one per channel in the order of `colour`, "RGB" or "BGR". None: not known.

    The size of the image is the network's option `img_size`.
    """

    mean: Optional[Channels] = None
    std: Optional[Channels] = None
    colour: str = "RGB"

    def normalize(self) -> str:
        """The operator of a config that makes such pixels, '' where they are not known."""
        if self.mean is None or self.std is None:
            return ""
        return f"NormalizeImage: {{scale: 1.0/255.0, mean: {list(self.mean)}, std: {list(self.std)}, order: ''}}"


UNKNOWN = Pixels()
IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = Pixels((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
