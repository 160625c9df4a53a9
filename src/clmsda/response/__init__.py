"""Response between scans: RECIST 1.1, change in volume, doubling time, and what is more than measuring twice shows."""

from clmsda.response.reading import read_time_point, read_time_points
from clmsda.response.report import Report, respond
from clmsda.response.statements import Statements
from clmsda.response.timepoints import TimePoint

__all__ = ["Report", "Statements", "TimePoint", "read_time_point", "read_time_points", "respond"]
