"""Where a photo shows bare face."""

from .camera import sample
from .canonical import OUTLINE, Field, Maps
from .features import glasses_cover
from .hair import front_cover
from .identity import Person
from .photo import NO_GLASSES, Photo
from .scene import cover, look


def face_mask(person: Person, maps: Maps, frame: Maps, photo: Photo, size: int) -> Field:
    """How much of each pixel is bare face, (S, S) float32, 0 to 1: inside the outline, not under hair or glasses.

    Eyes, lips and teeth are face; ears and neck are not. Blur is left out: it carries the face a few pixels further.
    """
    scene, _ = look(person, maps, frame, photo, size)
    outline = sample(maps.layers[..., OUTLINE], scene.texture_x, scene.texture_y)
    seen = cover(outline, scene.pixel)
    seen *= 1 - front_cover(person, photo, scene)
    if photo.glasses != NO_GLASSES:
        seen *= 1 - glasses_cover(person.frame, photo, scene)
    return seen
