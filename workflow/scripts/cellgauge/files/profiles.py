"""The files of a screen hold some arrays twice: under its name for profile corrected, with a suffix for profile reference.

Reference compares with all controls; in corrected predictors see one half of them, and responses are measured against the
other.
"""

SUFFIX = {"corrected": "", "reference": "_reference"}
"""What the name of an array ends with, by profile."""
