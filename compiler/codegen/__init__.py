"""The back end: typed graph to linked program. `build.generate` is the way in."""
