"""Image networks that the video networks encode frames with, as feature extractors.

Module names are those of the public implementations, so that their state dicts load.
"""
