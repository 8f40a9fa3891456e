"""The papers' figures beside counts of the networks here, one file a paper.

Only the papers' own figures are constants. How each paper counts was found by fitting
(docs/networks.md, "How the papers count") and stands in its file.
"""
