"""Many CTs: a table of prompts in; masks, measurements, one table and one page of all of them out."""

from clmsda.batch.errors import BatchError
from clmsda.batch.running import run
from clmsda.batch.table import Row, read_table

__all__ = ["BatchError", "Row", "read_table", "run"]
