"""Sizes of images and layers, and what they may be. Apart from `config`, whose schema takes longer to build than a
decision with an exported model needs of it."""

ImageSize = int | tuple[int, int]
"""Pixels of a network's input: a square's side, or rows and columns that differ."""

MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 32, 2048
"""Pixels a side. Far more than any face needs; a model file that asks for more than this and the bound below is taken
for damaged before anything is made of it."""
MAX_WIDTH = 16_384


def image_size_of(size: ImageSize) -> ImageSize:
    """The one form of a size, so that equal ones are equal: a side for squares, else (rows, columns)."""
    if isinstance(size, int):
        return size
    rows, columns = (int(side) for side in size)
    return rows if rows == columns else (rows, columns)
