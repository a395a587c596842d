"""How often, how many bytes, which lanes: symbolic and without a device."""

from costmodel.counts.cases import TooManyCasesError
from costmodel.counts.lanes import Columns, Requests, request_parts, warp_requests
from costmodel.counts.nests import executions, work
from costmodel.counts.traffic import Flow, Traffic, traffic

__all__ = [
    "Columns",
    "Flow",
    "Requests",
    "TooManyCasesError",
    "Traffic",
    "executions",
    "request_parts",
    "traffic",
    "warp_requests",
    "work",
]
