"""Fixtures of `drawn_scenes`, for every test of this folder."""

from drawn_scenes import detector, photos_folder, shared_photos

__all__ = ["detector", "photos_folder", "shared_photos"]
