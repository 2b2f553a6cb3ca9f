"""The limits of what files may ask for, in one place: a file decides sizes, and these bound them before memory is used.

They are far above what networks, recipes and images need. docs/security.md lists them.
"""

from __future__ import annotations

# A TOML document: networks, preprocessing, recipes, studies; the thresholds of 40,000 labels. Nested brackets and the
# parts of a dotted key together.
TOML_BYTES = 1 << 20
TOML_DEPTH = 32
# The index of shards: the names of 21,843 classes take 1 MB.
SHARD_INDEX_BYTES = 4 << 20
# Digits of a number; 64 bits need 20.
NUMBER_DIGITS = 400
# The metadata of an exported file, the header of a weights file, a text file of labels, a JSON document.
METADATA_BYTES = 64 << 20
# The message of an error.
MESSAGE_CHARACTERS = 4000
# An image list, with millions of rows.
LIST_BYTES = 1 << 30
# How many times as large as its file such a list in Parquet may be; paths, which differ, are compressed to a tenth.
# Where this is less, METADATA_BYTES.
LIST_UNPACKED = 64
# The different fields in the lines of an image list in JSON Lines.
LIST_FIELDS = 2_000
# The weights of a model; EfficientNet-L2 has 1.9 GB.
WEIGHTS_BYTES = 8 << 30
# How many times as large as their file the weights of Keras may be, which may be compressed: float32 that holds values
# of 16 bits becomes half as large or a third. Files of torch are never compressed. Where this is less, METADATA_BYTES.
UNPACKED = 4
# Blocks of a network whose layers are listed or built; the deepest published ResNet has 400. Costs have no such limit:
# they are a formula.
BLOCKS = 2_000
# Channels of such a network's layers, and its classes.
CHANNELS = 1_000_000
# Side of a network's input, and of the images that preprocessing makes, in pixels: 200 MB each. EfficientNet-L2 takes
# 800.
SIDE = 4096
# Images of a training step.
BATCH = 1_000_000
# The bytes of an image file.
IMAGE_BYTES = 1 << 30
# Scans of a JPEG: each may pass over all pixels, and have a few bytes only. Encoders write about ten.
SCANS = 100
