"""From the typed graph to the linked program."""
