"""The codes of `fuzz.structured` as networks by hand write them."""

from fuzz.structured import SCALE, ZERO
from tests.models.qdq import Q

CODES = Q(SCALE, ZERO)
