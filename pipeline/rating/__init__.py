"""Rating: a pure function from usage (integers) and a dated catalog to exact amounts. See README.md."""

from pipeline.rating.allowances import UsageMismatch
from pipeline.rating.spans import Stretch, stretches
from pipeline.rating.usage import Cost, CostSource, RatedCharge, RatedUsage, Unrated, rate_usage

__all__ = [
    "Cost",
    "CostSource",
    "RatedCharge",
    "RatedUsage",
    "Stretch",
    "Unrated",
    "UsageMismatch",
    "rate_usage",
    "stretches",
]
