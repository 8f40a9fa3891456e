"""ARRAY: controller, feed and columns."""
