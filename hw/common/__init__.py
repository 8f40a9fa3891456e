"""Pieces that every hardware room uses: layouts, port signatures, address generators."""
