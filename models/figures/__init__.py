"""The papers' figures beside counts of the networks here, one file a paper.

Only the papers' own figures are constants. How each paper counts was found by fitting
(networks.md section 0) and stands in its file.
"""
