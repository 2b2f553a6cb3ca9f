"""Pictures: finding them, reading them, and what they go through before a network sees them. Never imports torch."""

from compoundnet.data.folders import find_images
from compoundnet.data.images import UnreadableImageError, read_image, to_rgb
from compoundnet.data.transforms import preprocess

__all__ = ["UnreadableImageError", "find_images", "preprocess", "read_image", "to_rgb"]
